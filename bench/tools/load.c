// Drives one server on 127.0.0.1 with one HTTP request, closed loop over keep-alive connections, and prints what came back as JSON.
// Usage: load -p PORT -f REQUEST_FILE -c CONNECTIONS (-n REQUESTS | -d SECONDS) [-T GIVE_UP_AFTER_SECONDS]
// A token is "@" and 16 digits, the time when the mock sent it; times are in microseconds.
#define _GNU_SOURCE
#include "response.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef enum { IDLE, SENDING, WAITING, DEAD } phase;

typedef struct {
  int fd;
  phase phase;
  u64 started, first_token;
  size_t sent;
  response answer;
} conn;

typedef struct {
  uint32_t *at;
  size_t len, cap;
} samples;

static int port, epoll_fd, conn_count;
static conn *conns;
static char *request;
static size_t request_len;
static u64 target, end_us; // stop starting after so many requests, or at this time
static u64 started, answered, errors, not_200, body_bytes, tokens;
static samples latency, first_token, token_delay;

static u64 now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static void sample(samples *s, u64 value) {
  if (s->len == s->cap) {
    s->cap = s->cap ? s->cap * 2 : 65536;
    s->at = realloc(s->at, s->cap * sizeof *s->at);
    if (!s->at) abort();
  }
  s->at[s->len++] = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}
static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}
// The samples must be sorted.
static uint32_t percentile(samples *s, double p) { return s->len ? s->at[(size_t)(p * (s->len - 1))] : 0; }

// ---- sending
static void watch(conn *c, uint32_t events, int operation) {
  struct epoll_event e = {.events = events, .data.ptr = c};
  epoll_ctl(epoll_fd, operation, c->fd, &e);
}

static int dial(conn *c) {
  int one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(c->fd, (void *)&address, sizeof address)) {
    close(c->fd);
    c->phase = DEAD;
    return 0;
  }
  watch(c, EPOLLIN, EPOLL_CTL_ADD);
  c->phase = IDLE;
  return 1;
}

static void send_rest(conn *c) {
  while (c->sent < request_len) {
    ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
      watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
      c->phase = SENDING;
      return;
    }
    if (n < 0) {
      errors++;
      c->phase = DEAD;
      return;
    }
    c->sent += n;
  }
  if (c->phase == SENDING) watch(c, EPOLLIN, EPOLL_CTL_MOD);
  c->phase = WAITING;
}

static int more_to_start(u64 now) { return target ? started < target : now < end_us; }

static void start(conn *c, u64 now) {
  c->started = now;
  c->first_token = c->sent = 0;
  response_reset(&c->answer);
  c->phase = WAITING;
  started++;
  send_rest(c);
}

static void finish(conn *c, u64 now) {
  answered++;
  if (c->answer.status != 200) not_200++;
  body_bytes += c->answer.body_bytes;
  sample(&latency, now - c->started);
  if (c->first_token) sample(&first_token, c->first_token - c->started);
  if (c->answer.close) {
    close(c->fd);
    if (!dial(c)) {
      errors++;
      return;
    }
  }
  c->phase = IDLE;
  if (more_to_start(now)) start(c, now);
}

// ---- receiving
static void on_closed(conn *c, u64 now) {
  if (c->phase == WAITING && response_ends_at_close(&c->answer)) {
    c->answer.close = 1;
    return finish(c, now);
  }
  if (c->phase != IDLE) {
    errors++;
    started--;
  }
  close(c->fd);
  if (dial(c) && more_to_start(now)) start(c, now);
}

static void take_tokens(conn *c, u64 now) {
  for (size_t i = 0; i < sent_at_len; i++) sample(&token_delay, now > sent_at[i] ? now - sent_at[i] : 0);
  if (sent_at_len && !c->first_token) c->first_token = now;
  tokens += sent_at_len;
}

static void on_readable(conn *c) {
  static char bytes[READ_MAX];
  for (;;) {
    ssize_t got = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    u64 now = now_us();
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return on_closed(c, now);
    if (c->phase == IDLE) continue; // nobody asked: a server may say 408 before it closes
    int complete = response_read(&c->answer, bytes, got);
    take_tokens(c, now);
    if (complete) return finish(c, now);
    if ((size_t)got < sizeof bytes) return;
  }
}

// ---- the run
static void read_request(const char *file) {
  FILE *f = file ? fopen(file, "rb") : NULL;
  if (!f) {
    fprintf(stderr, "load: cannot read the request file\n");
    exit(2);
  }
  fseek(f, 0, SEEK_END);
  request_len = ftell(f);
  rewind(f);
  request = malloc(request_len);
  if (fread(request, 1, request_len, f) != request_len) exit(2);
  fclose(f);
}

static int busy_conns(int *dead) {
  int busy = 0;
  *dead = 0;
  for (int i = 0; i < conn_count; i++) {
    if (conns[i].phase == DEAD) ++*dead;
    else if (conns[i].phase != IDLE) busy++;
  }
  return busy;
}

static void run(u64 give_up_us) {
  struct epoll_event events[512];
  for (unsigned turn = 0;; turn++) {
    u64 now = now_us();
    if (turn % 64 == 0 || !more_to_start(now)) {
      int dead, busy = busy_conns(&dead);
      if (now > give_up_us) errors += busy;
      if (now > give_up_us || dead == conn_count || (!busy && !more_to_start(now))) return;
    }
    int n = epoll_wait(epoll_fd, events, 512, 100);
    for (int i = 0; i < n; i++) {
      conn *c = events[i].data.ptr;
      if (c->phase == SENDING && events[i].events & EPOLLOUT) send_rest(c);
      if (c->phase != DEAD && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
    }
  }
}

static void report(double seconds) {
  samples *all[] = {&latency, &first_token, &token_delay};
  for (int i = 0; i < 3; i++) qsort(all[i]->at, all[i]->len, sizeof(uint32_t), by_value);
  printf("{\"requests\":%llu,\"errors\":%llu,\"not200\":%llu,\"seconds\":%.4f,\"bodyBytes\":%llu,\"tokens\":%llu,", answered, errors, not_200,
         seconds, body_bytes, tokens);
  printf("\"latencyP50\":%u,\"latencyP99\":%u,\"firstTokenP50\":%u,\"firstTokenP99\":%u,\"tokenDelayP50\":%u,\"tokenDelayP99\":%u}\n",
         percentile(&latency, .5), percentile(&latency, .99), percentile(&first_token, .5), percentile(&first_token, .99),
         percentile(&token_delay, .5), percentile(&token_delay, .99));
}

int main(int argc, char **argv) {
  double seconds = 0, give_up = 60;
  const char *file = NULL;
  conn_count = 1;
  for (int option; (option = getopt(argc, argv, "p:f:c:n:d:T:")) != -1;) switch (option) {
      case 'p': port = atoi(optarg); break;
      case 'f': file = optarg; break;
      case 'c': conn_count = atoi(optarg); break;
      case 'n': target = atoll(optarg); break;
      case 'd': seconds = atof(optarg); break;
      case 'T': give_up = atof(optarg); break;
      default: return 2;
    }
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL); // never outlive a benchmark that was killed
  if (conn_count > 20000) conn_count = 20000;
  if (seconds > 120) seconds = 120;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  read_request(file);
  epoll_fd = epoll_create1(0);
  conns = calloc(conn_count, sizeof *conns);
  for (int i = 0; i < conn_count; i++) {
    if (dial(&conns[i])) continue;
    fprintf(stderr, "load: cannot connect\n");
    return 1;
  }
  u64 begin = now_us();
  end_us = begin + (u64)(seconds * 1e6);
  for (int i = 0; i < conn_count && more_to_start(begin); i++) start(&conns[i], now_us());
  run(begin + (u64)(give_up * 1e6));
  report((now_us() - begin) / 1e6);
  return 0;
}
