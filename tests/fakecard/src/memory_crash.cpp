// The report of a host touch: what happened and where, then the program's own handler (faulthandler prints Python's stack).
#include <execinfo.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "memory.h"

namespace fakecard {
namespace {

struct sigaction before;

void report(int number, siginfo_t* info, void* context) {
  if (in_arena(info->si_addr)) {
    char text[200];
    const int length =
        snprintf(text, sizeof(text),
                 "\nfakecard: host code touched the card's memory at %p; copy it with cudaMemcpy*. The stack:\n", info->si_addr);
    if (write(STDERR_FILENO, text, static_cast<size_t>(length)) < 0) _exit(139);
    void* frames[48];
    backtrace_symbols_fd(frames, backtrace(frames, 48), STDERR_FILENO);
  }
  if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(number, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(number);
  signal(number, SIG_DFL);  // the access is tried again, and ends the process with this signal
}

}  // namespace

void install_crash_report() {
  void* frame;
  backtrace(&frame, 1);  // loads what it needs now, not within the handler
  struct sigaction action = {};
  action.sa_sigaction = report;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &before);
}

}  // namespace fakecard
