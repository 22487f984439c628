// One byte there, one byte back, over one TCP connection; how long each took.
//   request-response serve PORT
//   request-response ask ADDRESS PORT COUNT    prints {"p50":..,"p99":..} in microseconds
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 200 };

static int die(const char *what) {
  perror(what);
  return 1;
}

static double micros(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int serve(int port) {
  struct sockaddr_in self = {.sin_family = AF_INET, .sin_port = htons(port)};
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&self, sizeof self) || listen(listener, 16)) return die("listen");
  puts("ready");
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) return die("accept");
    no_delay(fd);
    char byte;
    while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1) {
    }
    close(fd);
  }
}

static int ask(const char *address, int port, int count) {
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_pton(AF_INET, address, &server.sin_addr) != 1) return die("address");
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&server, sizeof server)) return die("connect");
  no_delay(fd);
  double *took = malloc(sizeof *took * count);
  char byte = 1;
  for (int i = -WARM_UP; i < count; i++) {
    double before = micros();
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) return die("exchange");
    if (i >= 0) took[i] = micros() - before;
  }
  qsort(took, count, sizeof *took, ascending);
  printf("{\"p50\":%.2f,\"p99\":%.2f}\n", took[count / 2], took[count / 100 * 99]);
  return 0;
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 3 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
  if (argc == 5 && !strcmp(argv[1], "ask") && atoi(argv[4]) >= 100) return ask(argv[2], atoi(argv[3]), atoi(argv[4]));
  fputs("usage: request-response serve PORT | ask ADDRESS PORT COUNT (at least 100)\n", stderr);
  return 2;
}
