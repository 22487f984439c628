// New TCP connections, as many as go: connect, one byte there and back, reset (so that no port waits in TIME_WAIT).
//   connections serve PORT
//   connections open ADDRESS PORT PROCESSES SECONDS    prints {"opened":..,"failed":..,"seconds":..}
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, SERVERS = 2 };

struct tally {
  long opened, failed;
};

static int die(const char *what) {
  perror(what);
  return 1;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int serve(int port) {
  struct sockaddr_in self = {.sin_family = AF_INET, .sin_port = htons(port)};
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&self, sizeof self) || listen(listener, BACKLOG)) return die("listen");
  puts("ready");
  fflush(stdout);
  for (int i = 1; i < SERVERS; i++) {
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      break;
    }
  }
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue; // reset before it was accepted
    struct timeval limit = {.tv_sec = 1};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char byte;
    if (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) != 1) {
    }
    close(fd);
  }
}

static int open_one(const struct sockaddr_in *server) {
  struct linger reset = {.l_onoff = 1};
  struct timeval limit = {.tv_sec = 1};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  char byte = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  int ok = connect(fd, (const struct sockaddr *)server, sizeof *server) == 0 && write(fd, &byte, 1) == 1 &&
           read(fd, &byte, 1) == 1;
  close(fd);
  return ok;
}

static int open_many(const char *address, int port, int processes, double seconds) {
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
  int results[2];
  if (inet_pton(AF_INET, address, &server.sin_addr) != 1 || pipe(results)) return die("address or pipe");
  double start = now();
  for (int i = 0; i < processes; i++) {
    if (fork() != 0) continue;
    struct tally mine = {0};
    while (now() < start + seconds) {
      if (open_one(&server)) mine.opened++;
      else mine.failed++;
    }
    return write(results[1], &mine, sizeof mine) == sizeof mine ? 0 : die("write");
  }
  struct tally all = {0}, one;
  for (int i = 0; i < processes; i++) {
    if (read(results[0], &one, sizeof one) != sizeof one) return die("read");
    all.opened += one.opened;
    all.failed += one.failed;
  }
  while (wait(NULL) > 0) {
  }
  printf("{\"opened\":%ld,\"failed\":%ld,\"seconds\":%.6f}\n", all.opened, all.failed, now() - start);
  return 0;
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 3 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
  if (argc == 6 && !strcmp(argv[1], "open")) return open_many(argv[2], atoi(argv[3]), atoi(argv[4]), atof(argv[5]));
  fputs("usage: connections serve PORT | open ADDRESS PORT PROCESSES SECONDS\n", stderr);
  return 2;
}
