// Reads one HTTP/1.1 response as its bytes come, counts its body, and collects the tokens in it.
#pragma once
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

typedef unsigned long long u64;
typedef enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER } chunk_part;

typedef struct {
  int have_head, status, chunked, close;
  size_t head_len;
  char head[16384];
  long long length; // -1: until the connection closes
  u64 body_bytes;
  chunk_part part;
  long long chunk_left;
  char size_text[24];
  int size_len;
  int digits; // of the token being read, -1 outside one
  u64 token;
} response;

// The sending times of the tokens that the last response_read found: at most one per 17 bytes of what it was given.
enum { READ_MAX = 1 << 18 };
static u64 sent_at[READ_MAX / 17 + 1];
static size_t sent_at_len;

static void response_reset(response *r) {
  r->have_head = r->status = 0;
  r->head_len = r->body_bytes = 0;
  r->part = CHUNK_SIZE;
  r->size_len = 0;
  r->digits = -1;
}

static int response_ends_at_close(const response *r) { return r->have_head && !r->chunked && r->length < 0; }

static void scan(response *r, const char *p, size_t n) {
  const char *end = p + n;
  r->body_bytes += n;
  while (p < end) {
    if (r->digits < 0) {
      p = memchr(p, '@', end - p);
      if (!p) return;
      p++;
      r->digits = 0;
      r->token = 0;
    } else if (*p < '0' || *p > '9') {
      r->digits = -1;
    } else {
      r->token = r->token * 10 + (*p++ - '0');
      if (++r->digits < 16) continue;
      sent_at[sent_at_len++] = r->token;
      r->digits = -1;
    }
  }
}

static int read_chunks(response *r, const char *p, const char *end) {
  while (p < end) {
    if (r->part == CHUNK_SIZE) {
      char byte = *p++;
      if (byte != '\n') {
        if (r->size_len < 20) r->size_text[r->size_len++] = byte;
        continue;
      }
      r->size_text[r->size_len] = 0;
      r->size_len = 0;
      r->chunk_left = strtoll(r->size_text, NULL, 16);
      r->part = r->chunk_left ? CHUNK_DATA : CHUNK_TRAILER;
    } else if (r->part == CHUNK_DATA) {
      size_t n = end - p < r->chunk_left ? (size_t)(end - p) : (size_t)r->chunk_left;
      scan(r, p, n);
      p += n;
      r->chunk_left -= n;
      if (!r->chunk_left) r->part = CHUNK_DATA_END;
    } else {
      const char *eol = memchr(p, '\n', end - p);
      if (!eol) return 0;
      p = eol + 1;
      if (r->part == CHUNK_TRAILER) return 1;
      r->part = CHUNK_SIZE;
    }
  }
  return 0;
}

// How many of the n bytes belong to the head.
static size_t read_head(response *r, const char *p, size_t n) {
  size_t room = sizeof r->head - r->head_len - 1, take = n < room ? n : room, before = r->head_len;
  memcpy(r->head + before, p, take);
  r->head_len += take;
  r->head[r->head_len] = 0;
  char *end = strstr(r->head, "\r\n\r\n");
  if (!end) return n;
  end[2] = 0;
  r->status = atoi(r->head + 9);
  r->head_len = 0;
  if (r->status != 100) {
    const char *length = strcasestr(r->head, "\ncontent-length:");
    r->length = length ? atoll(length + 16) : -1;
    r->chunked = strcasestr(r->head, "\ntransfer-encoding: chunked") != NULL;
    r->close = strcasestr(r->head, "\nconnection: close") != NULL;
    r->have_head = 1;
  }
  return end + 4 - r->head - before;
}

// Takes at most READ_MAX bytes; 1 when the response is complete.
static int response_read(response *r, const char *p, size_t n) {
  sent_at_len = 0;
  while (n && !r->have_head) {
    size_t used = read_head(r, p, n);
    p += used;
    n -= used;
  }
  if (!r->have_head) return 0;
  if (r->chunked) return read_chunks(r, p, p + n);
  scan(r, p, n);
  return r->length >= 0 && r->body_bytes >= (u64)r->length;
}
