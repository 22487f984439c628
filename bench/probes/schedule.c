// Gives threads a policy, a nice value and a slice, as sched_setattr(2) has them, and prints nothing when all were given.
//   schedule other NICE SLICE_MICROS TID...    a slice of 0 is the kernel's own
//   schedule rr PRIORITY 0 TID...
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OTHER = 0, RR = 2 };

struct attributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

int main(int argc, char **argv) {
  if (argc < 5) {
    fputs("usage: schedule other NICE SLICE_MICROS TID... | rr PRIORITY 0 TID...\n", stderr);
    return 2;
  }
  struct attributes given = {.size = sizeof given};
  if (!strcmp(argv[1], "rr")) {
    given.policy = RR;
    given.priority = atoi(argv[2]);
  } else {
    given.policy = OTHER;
    given.nice = atoi(argv[2]);
    given.runtime = strtoull(argv[3], NULL, 10) * 1000;
  }
  for (int i = 4; i < argc; i++) {
    if (syscall(SYS_sched_setattr, atoi(argv[i]), &given, 0)) {
      fprintf(stderr, "thread %s: %s\n", argv[i], strerror(errno));
      return 1;
    }
  }
  return 0;
}
