// Graphs and their replay.
#pragma once
#include "capture.h"

namespace fakecard {

struct GraphExec;
Graph* new_graph();
Error destroy_graph(Graph* graph);
bool is_graph(const Graph* graph);
Error instantiate(Graph* graph, GraphExec** exec);
Error destroy_exec(GraphExec* exec);
Error launch_graph(GraphExec* exec, const StreamPtr& stream);
Error print_dot(const Graph* graph, const char* path);

}  // namespace fakecard
