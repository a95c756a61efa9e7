// BC_CLONES compiles a function for several instruction sets and picks one when the program starts; that is before a sanitizer
// of threads can be called.
#pragma once
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define BC_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BC_CLONES
#endif
