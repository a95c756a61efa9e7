// What belongs to a device as a whole: its primary context, and which other cards it may read.
#pragma once
#include "core.h"

namespace fakecard {

bool primary_active(int device);
void drop_context();  // of this thread
Error enable_peer(int device, int peer);
Error disable_peer(int device, int peer);

// The driver function of this name as a program that asks by name gets it ("cuMemAlloc" gives cuMemAlloc_v2); null: unknown
void* driver_entry(const char* name);

}  // namespace fakecard
