// Calls about graphs: made by capturing a stream, looked at, replayed.
#include <algorithm>

#include "graph.h"

using namespace fakecard;

FAKECARD_PAIR(cudaGraphCreate, cuGraphCreate, (Graph * *graph, unsigned flags), {
  if (flags) return kInvalidValue;
  *graph = new_graph();
  return kSuccess;
})
FAKECARD_PAIR(cudaGraphDestroy, cuGraphDestroy, (Graph * graph), { return destroy_graph(graph); })
FAKECARD_PAIR(cudaGraphGetNodes, cuGraphGetNodes, (Graph * graph, Node** nodes, size_t* count), {
  if (!is_graph(graph)) return kInvalidValue;
  const size_t there = graph->nodes.size();
  for (size_t i = 0; nodes && i < *count; ++i) nodes[i] = i < there ? graph->nodes[i].get() : nullptr;
  *count = nodes ? std::min(*count, there) : there;
  return kSuccess;
})
FAKECARD_PAIR(cudaGraphNodeGetType, cuGraphNodeGetType, (const Node* node, int* type), {
  *type = static_cast<int>(node->work.kind);
  return kSuccess;
})
FAKECARD_API Error cudaGraphInstantiate(GraphExec** exec, Graph* graph, unsigned long long) {
  return runtime_call(__func__, [&] { return instantiate(graph, exec); });
}
FAKECARD_PAIR(cudaGraphInstantiateWithFlags, cuGraphInstantiateWithFlags, (GraphExec * *exec, Graph* graph, unsigned long long),
              { return instantiate(graph, exec); })
FAKECARD_PAIR(cudaGraphUpload, cuGraphUpload, (GraphExec*, void*), { return kSuccess; })  // there is nothing to prepare
FAKECARD_PAIR(cudaGraphLaunch, cuGraphLaunch, (GraphExec * exec, void* handle), {
  StreamPtr stream;
  const Error error = find_stream(handle, &stream);
  return error ? error : launch_graph(exec, stream);
})
FAKECARD_PAIR(cudaGraphExecDestroy, cuGraphExecDestroy, (GraphExec * exec), { return destroy_exec(exec); })
FAKECARD_PAIR(cudaGraphDebugDotPrint, cuGraphDebugDotPrint, (const Graph* graph, const char* path, unsigned),
              { return print_dot(graph, path); })
