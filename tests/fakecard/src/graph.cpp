// A graph replays what was recorded, in the order of recording: each node comes after those it depends on there.
#include "graph.h"

#include <cstdio>
#include <map>
#include <set>

namespace fakecard {

struct GraphExec {
  std::vector<Work> works;
};

namespace {

struct Graphs {
  std::mutex lock;
  std::set<const Graph*> graphs;
  std::map<GraphExec*, std::shared_ptr<GraphExec>> execs;  // a replay that is under way keeps its own
};
Graphs& all() {
  static Graphs& it = *new Graphs;
  return it;
}

}  // namespace

Graph* new_graph() {
  const std::lock_guard<std::mutex> guard(all().lock);
  return const_cast<Graph*>(*all().graphs.insert(new Graph).first);
}

Error destroy_graph(Graph* graph) {
  const std::lock_guard<std::mutex> guard(all().lock);
  if (!all().graphs.erase(graph)) return kInvalidValue;
  delete graph;
  return kSuccess;
}

bool is_graph(const Graph* graph) {
  const std::lock_guard<std::mutex> guard(all().lock);
  return all().graphs.count(graph) > 0;
}

Error instantiate(Graph* graph, GraphExec** exec) {
  if (!is_graph(graph)) return kInvalidValue;
  auto made = std::make_shared<GraphExec>();
  for (const auto& node : graph->nodes) made->works.push_back(node->work);
  *exec = made.get();
  const std::lock_guard<std::mutex> guard(all().lock);
  all().execs[*exec] = std::move(made);
  return kSuccess;
}

Error destroy_exec(GraphExec* exec) {
  const std::lock_guard<std::mutex> guard(all().lock);
  return all().execs.erase(exec) ? kSuccess : kInvalidValue;
}

Error launch_graph(GraphExec* handle, const StreamPtr& stream) {
  std::shared_ptr<GraphExec> exec;
  {
    const std::lock_guard<std::mutex> guard(all().lock);
    const auto found = all().execs.find(handle);
    if (found == all().execs.end()) return kInvalidValue;
    exec = found->second;
  }
  return submit(stream, {Kind::kGraph, "graph", [exec] {
                           count(kGraphLaunch);
                           for (const Work& work : exec->works)
                             if (const Error error = work.run()) return error;
                           return kSuccess;
                         }});
}

Error print_dot(const Graph* graph, const char* path) {
  if (!is_graph(graph)) return kInvalidValue;
  FILE* file = fopen(path, "w");
  if (!file) return kInvalidValue;
  fprintf(file, "digraph fakecard {\n");
  std::map<const Node*, int> number;
  for (const auto& node : graph->nodes) {
    const int mine = number.emplace(node.get(), static_cast<int>(number.size())).first->second;
    fprintf(file, "  n%d [label=\"%s\"];\n", mine, node->work.label.c_str());
    for (const Node* before : node->after) fprintf(file, "  n%d -> n%d;\n", number.at(before), mine);
  }
  fprintf(file, "}\n");
  fclose(file);
  return kSuccess;
}

}  // namespace fakecard
