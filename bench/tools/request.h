// Reads HTTP/1.1 requests out of a buffer: the head, then a body by Content-Length or by chunks.
#pragma once
#define _GNU_SOURCE
#include "buffer.h"
#include <stdio.h>
#include <string.h>

typedef enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER } chunk_part;

typedef struct {
  char method[8], path[256];
  int have_head, chunked, close, expects_continue;
  long long length;
  chunk_part part;
  long long chunk_left;
  buffer body;
} request;

// 1 when the head is complete (and consumed), 0 when bytes are missing, -1 when it is not HTTP.
static int read_head(request *r, buffer *in) {
  char *end = memmem(in->data, in->len, "\r\n\r\n", 4);
  if (!end) return 0;
  end[2] = 0;
  if (sscanf(in->data, "%7s %255s", r->method, r->path) != 2) return -1;
  char *field = strcasestr(in->data, "\ncontent-length:");
  r->length = field ? atoll(field + 16) : 0;
  field = strcasestr(in->data, "\ntransfer-encoding:");
  r->chunked = field && strcasestr(field, "chunked");
  r->close = strcasestr(in->data, "\nconnection: close") != NULL;
  r->expects_continue = strcasestr(in->data, "\nexpect: 100-continue") != NULL;
  r->part = CHUNK_SIZE;
  r->body.len = 0;
  buffer_drop(in, end + 4 - in->data);
  return 1;
}

static int read_sized(request *r, buffer *in) {
  size_t missing = r->length - r->body.len, n = in->len < missing ? in->len : missing;
  buffer_add(&r->body, in->data, n);
  buffer_drop(in, n);
  return n == missing;
}

static int read_chunks(request *r, buffer *in) {
  size_t at = 0;
  int done = 0;
  while (at < in->len && !done) {
    char *p = in->data + at;
    size_t left = in->len - at;
    if (r->part == CHUNK_DATA) {
      size_t n = (long long)left < r->chunk_left ? left : (size_t)r->chunk_left;
      buffer_add(&r->body, p, n);
      at += n;
      r->chunk_left -= n;
      if (!r->chunk_left) r->part = CHUNK_DATA_END;
      continue;
    }
    char *eol = memchr(p, '\n', left);
    if (!eol) break;
    at += eol + 1 - p;
    if (r->part == CHUNK_SIZE) {
      r->chunk_left = strtoll(p, NULL, 16);
      r->part = r->chunk_left ? CHUNK_DATA : CHUNK_TRAILER;
    } else if (r->part == CHUNK_DATA_END) {
      r->part = CHUNK_SIZE;
    } else {
      done = eol - p <= 1; // the empty line after the trailers
    }
  }
  buffer_drop(in, at);
  return done;
}

// 1 when a whole request was read, 0 when bytes are missing, -1 when it is not HTTP.
static int request_read(request *r, buffer *in) {
  if (!r->have_head) {
    int head = read_head(r, in);
    if (head <= 0) return head;
    r->have_head = 1;
  }
  int done = r->chunked ? read_chunks(r, in) : read_sized(r, in);
  if (!done) return 0;
  r->have_head = 0;
  buffer_add(&r->body, "", 1); // so that the body can be searched as text
  r->body.len--;
  return 1;
}
