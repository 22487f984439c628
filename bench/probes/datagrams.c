// Datagrams at a rate, and how many arrive.
//   datagrams receive PORT IDLE_MS                      until nothing came for so long; prints {"received":..,"seconds":..}
//   datagrams send ADDRESS PORT BYTES SECONDS RATE      RATE a second, 0: as many as go; prints {"sent":..,"seconds":..}
//   datagrams spread ADDRESS SOURCES PORTS RATE         one from each of SOURCES sockets to each of PORTS ports
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, PACED_BATCH = 8, MAX_BYTES = 2048, BUFFER_BYTES = 8 << 20, FIRST_PORT = 20000, FIRST_WAIT_MS = 10000 };

static char buffers[BATCH][MAX_BYTES];
static struct iovec slices[BATCH];
static struct mmsghdr messages[BATCH];

static int die(const char *what) {
  perror(what);
  return 1;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void prepare(size_t bytes) {
  for (int i = 0; i < BATCH; i++) {
    slices[i] = (struct iovec){.iov_base = buffers[i], .iov_len = bytes};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &slices[i], .msg_iovlen = 1};
  }
}

static int open_socket(void) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0), bytes = BUFFER_BYTES;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  return fd;
}

static int receive(int port, int idle_ms) {
  struct sockaddr_in self = {.sin_family = AF_INET, .sin_port = htons(port)};
  int fd = open_socket();
  if (bind(fd, (struct sockaddr *)&self, sizeof self)) return die("bind");
  prepare(MAX_BYTES);
  puts("ready");
  fflush(stdout);
  long received = 0;
  double first = 0, last = 0;
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  while (poll(&ready, 1, received ? idle_ms : FIRST_WAIT_MS) > 0) {
    int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    if (count <= 0) continue;
    last = now();
    if (received == 0) first = last;
    received += count;
  }
  printf("{\"received\":%ld,\"seconds\":%.6f}\n", received, last - first);
  return 0;
}

// Spins rather than sleeps: a sleep is longer than the gaps it would have to make.
static void pace(double start, long sent, double rate) {
  while (rate > 0 && sent > (now() - start) * rate) {
  }
}

static int send_all(const char *address, int port, size_t bytes, double seconds, double rate) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1 || bytes > MAX_BYTES) return die("address or size");
  int fd = open_socket();
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) return die("connect");
  prepare(bytes);
  long sent = 0;
  double start = now(), end = start + seconds;
  while (now() < end) {
    int count = sendmmsg(fd, messages, rate > 0 ? PACED_BATCH : BATCH, 0);
    if (count > 0) sent += count;
    else if (errno != ECONNREFUSED && errno != ENOBUFS) return die("sendmmsg");
    pace(start, sent, rate);
  }
  printf("{\"sent\":%ld,\"seconds\":%.6f}\n", sent, now() - start);
  return 0;
}

static int spread(const char *address, int sources, int ports, double rate) {
  struct sockaddr_in to = {.sin_family = AF_INET};
  struct rlimit files = {.rlim_cur = sources + 16, .rlim_max = sources + 16};
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1) return die("address");
  if (setrlimit(RLIMIT_NOFILE, &files)) return die("setrlimit");
  long sent = 0;
  double start = now();
  for (int i = 0; i < sources; i++) {
    int fd = open_socket();
    if (fd < 0) return die("socket");
    for (int port = 0; port < ports; port++) {
      to.sin_port = htons(FIRST_PORT + port);
      if (sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1) sent++;
      pace(start, sent, rate);
    }
  }
  printf("{\"sent\":%ld,\"seconds\":%.6f}\n", sent, now() - start);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "receive")) return receive(atoi(argv[2]), atoi(argv[3]));
  if (argc == 7 && !strcmp(argv[1], "send"))
    return send_all(argv[2], atoi(argv[3]), atoi(argv[4]), atof(argv[5]), atof(argv[6]));
  if (argc == 6 && !strcmp(argv[1], "spread")) return spread(argv[2], atoi(argv[3]), atoi(argv[4]), atof(argv[5]));
  fputs("usage: datagrams receive PORT IDLE_MS | send ADDRESS PORT BYTES SECONDS RATE | spread ADDRESS SOURCES PORTS RATE\n",
        stderr);
  return 2;
}
