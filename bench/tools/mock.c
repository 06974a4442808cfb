// A very cheap AI upstream on 127.0.0.1: one epoll thread that answers OpenAI and Ollama chats as the model's name asks.
// Usage: mock PORT MODEL...   The models are what its lists show; answers.h says how a name describes a behaviour.
#define _GNU_SOURCE
#include "answers.h"
#include "buffer.h"
#include "request.h"
#include "timers.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct conn {
  timer pace; // first, so that a due timer is its connection
  int fd, dead, watching_out;
  buffer in, out;
  size_t out_sent;
  request req;
  // the stream that is being written
  int streaming, with_usage;
  dialect dialect;
  long tokens_left, pace_us;
  struct conn *next_dead;
} conn;

static int epoll_fd, model_count;
static char **models;
static conn *dead_conns;

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

// ---- writing
// Freed at the end of a turn only, because events of the same turn may still point to it.
static void bury(conn *c) {
  if (c->dead) return;
  c->dead = 1;
  timer_stop(&c->pace);
  close(c->fd);
  c->next_dead = dead_conns;
  dead_conns = c;
}

static void put(conn *c, const char *bytes, size_t n) {
  if (c->out_sent == c->out.len) c->out_sent = c->out.len = 0;
  buffer_add(&c->out, bytes, n);
}
static void put_chunk(conn *c, const char *bytes, size_t n) {
  char size[24];
  put(c, size, snprintf(size, sizeof size, "%zx\r\n", n));
  put(c, bytes, n);
  put(c, "\r\n", 2);
}

static void watch_out(conn *c, int on) {
  if (c->watching_out == on) return;
  c->watching_out = on;
  struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}
static void flush_out(conn *c) {
  while (c->out_sent < c->out.len) {
    ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) return watch_out(c, 1);
    if (n < 0) return bury(c);
    c->out_sent += n;
  }
  watch_out(c, 0);
  if (c->req.close && !c->streaming) bury(c);
}

static void put_token(conn *c) {
  char text[512];
  put_chunk(c, text, token_text(text, c->dialect, now_us()));
  if (--c->tokens_left > 0) return;
  const char *last = last_text(c->dialect, c->with_usage);
  put_chunk(c, last, strlen(last));
  put(c, "0\r\n\r\n", 5);
  c->streaming = 0;
  timer_stop(&c->pace);
}
static void put_paced_token(conn *c, uint64_t now) {
  put_token(c);
  if (c->streaming) {
    uint64_t due = c->pace.due + c->pace_us;
    timer_start(&c->pace, due < now ? now : due);
  }
  flush_out(c);
}
// An unpaced stream goes out in pieces of 64 KiB, as fast as the reader takes them.
static void pump(conn *c) {
  while (!c->dead && c->streaming && !c->pace_us && c->out_sent == c->out.len) {
    while (c->streaming && c->out.len - c->out_sent < 65536) put_token(c);
    flush_out(c);
  }
}

// ---- answering
static void put_json(conn *c, const char *status, buffer *json) {
  char head[160];
  put(c, head, snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status, json->len));
  put(c, json->data, json->len);
}

static void respond(conn *c) {
  static buffer json;
  json.len = 0;
  const char *path = c->req.path, *body = c->req.body.data;
  int openai = !strcmp(path, "/v1/chat/completions"), ollama = !strcmp(path, "/api/chat");
  if (!openai && !ollama) {
    int found = other_answer(&json, path, models, model_count);
    if (!found) buffer_add(&json, "{\"error\":\"not found\"}", 21);
    return put_json(c, found ? "200 OK" : "404 Not Found", &json);
  }
  behaviour b = behaviour_of(body);
  c->dialect = openai ? OPENAI : OLLAMA;
  if (!says(body, "stream", "true") && (openai || says(body, "stream", "false"))) {
    whole_answer(&json, c->dialect, b.size);
    return put_json(c, "200 OK", &json);
  }
  const char *type = openai ? "text/event-stream; charset=utf-8\r\nCache-Control: no-cache" : "application/x-ndjson";
  char head[160];
  put(c, head, snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n", type));
  c->streaming = 1;
  c->with_usage = says(body, "include_usage", "true");
  c->tokens_left = b.tokens;
  c->pace_us = b.pace_us;
  if (b.pace_us) timer_start(&c->pace, now_us() + b.pace_us);
}

static void on_readable(conn *c) {
  for (;;) {
    buffer_reserve(&c->in, c->in.len + 65536);
    ssize_t n = recv(c->fd, c->in.data + c->in.len, 65536, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) return bury(c);
    if (n < 0) return;
    c->in.len += n;
    while (!c->dead && c->in.len && !c->streaming) {
      int whole = request_read(&c->req, &c->in);
      if (whole < 0) return bury(c);
      if (!whole) {
        if (c->req.have_head && c->req.expects_continue) put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25), c->req.expects_continue = 0;
        flush_out(c);
        break;
      }
      respond(c);
      flush_out(c);
      pump(c);
    }
    if (c->dead || n < 65536) return;
  }
}

static void accept_all(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
  }
}

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(fd, (void *)&address, sizeof address) || listen(fd, 4096)) {
    perror("mock: cannot listen");
    exit(1);
  }
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
  return fd;
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL); // never outlive a benchmark that was killed
  models = argv + 2;
  model_count = argc > 2 ? argc - 2 : 0;
  epoll_fd = epoll_create1(0);
  int listener = listen_on(argc > 1 ? atoi(argv[1]) : 9900);
  struct epoll_event events[256];
  for (;;) {
    uint64_t now = now_us();
    timer *next = timer_next();
    int wait_ms = !next ? -1 : next->due <= now ? 0 : (int)((next->due - now + 999) / 1000);
    int n = epoll_wait(epoll_fd, events, 256, wait_ms);
    for (int i = 0; i < n; i++) {
      conn *c = events[i].data.ptr;
      if (!c) {
        accept_all(listener);
        continue;
      }
      if (!c->dead && events[i].events & EPOLLOUT) flush_out(c), pump(c);
      if (!c->dead && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
    }
    now = now_us();
    while ((next = timer_next()) && next->due <= now) put_paced_token((conn *)next, now);
    while (dead_conns) {
      conn *c = dead_conns;
      dead_conns = c->next_dead;
      buffer_free(&c->in);
      buffer_free(&c->out);
      buffer_free(&c->req.body);
      free(c);
    }
  }
}
