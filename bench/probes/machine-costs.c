// What the machine charges for its two commonest services. Prints {"systemCall":..,"wakeUp":..} in nanoseconds.
//   systemCall: getppid(2), which does nothing
//   wakeUp: from futex(2)'s FUTEX_WAKE in one thread until another thread, which slept, has taken its turn. The threads
//   are on different processors, as far as there are several.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 200000, WARM_UP = 500, TURNS = 10000 };

static _Atomic int turn;

static double nanos(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// The index-th of the processors that this process may use, counted round.
static void run_on(int index) {
  cpu_set_t all, one;
  sched_getaffinity(0, sizeof all, &all);
  index %= CPU_COUNT(&all);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &all) || index-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

static void await_turn(int mine) {
  while (turn != mine) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !mine, NULL, NULL, 0);
}

static void give_turn(int other) {
  turn = other;
  syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *answer(void *unused) {
  run_on(1);
  for (int i = 0; i < WARM_UP + TURNS; i++) {
    await_turn(1);
    give_turn(0);
  }
  return unused;
}

int main(void) {
  double began = nanos();
  for (int i = 0; i < CALLS; i++) syscall(SYS_getppid);
  double system_call = (nanos() - began) / CALLS;

  static double times[TURNS];
  pthread_t other;
  if (pthread_create(&other, NULL, answer, NULL) != 0) return 1;
  run_on(0);
  for (int i = 0; i < WARM_UP + TURNS; i++) {
    began = nanos();
    give_turn(1);
    await_turn(0);
    if (i >= WARM_UP) times[i - WARM_UP] = (nanos() - began) / 2; // a wake-up each way
  }
  pthread_join(other, NULL);
  qsort(times, TURNS, sizeof *times, ascending);
  printf("{\"systemCall\":%.0f,\"wakeUp\":%.0f}\n", system_call, times[TURNS / 2]);
  return 0;
}
