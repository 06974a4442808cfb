# Anchor: nginx, unbuffered, as a near-physical limit for a reverse proxy. @PORT@, @UPSTREAM@ and @DIR@ are filled in by gateways.mjs.
worker_processes 1;
worker_rlimit_nofile 65536;
daemon off;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log crit;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path @DIR@/body;
  proxy_temp_path @DIR@/proxy;
  fastcgi_temp_path @DIR@/fastcgi;
  uwsgi_temp_path @DIR@/uwsgi;
  scgi_temp_path @DIR@/scgi;
  keepalive_requests 100000000;
  client_max_body_size 1g;
  tcp_nodelay on;
  upstream runtime {
    server 127.0.0.1:@UPSTREAM@;
    keepalive 2048;
    keepalive_requests 100000000;
  }
  server {
    listen 127.0.0.1:@PORT@ backlog=4096;
    location / {
      proxy_pass http://runtime;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 3600s;
    }
  }
}
