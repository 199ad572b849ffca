/* Closed-loop HTTP/1.1 load generator: one thread, N keep-alive connections, one request in flight on each.
 *
 *   load HOST PORT CONNECTIONS SECONDS REQUEST_FILE  ->  one JSON object on stdout
 *
 * REQUEST_FILE holds one or more whole requests (head and body), separated by a line "%%"; connections
 * take them in turn. Latencies are kept exactly (one uint32 of µs a request) and sorted at the end. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_SAMPLES (1u << 24)
#define BUFFER 65536

typedef struct {
    int fd;
    size_t got, want; /* bytes received; bytes of the whole response once the head is known */
    int status, chunked;
    uint64_t started;
    char in[BUFFER];
} Connection;

static struct { char *bytes; size_t length; } *requests;
static size_t request_count, next_request;
static uint32_t *samples;
static size_t sample_count, errors, reconnects;
static struct sockaddr_in address;
static int poller;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void load_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(size + 1);
    if (fread(text, 1, size, file) != size) die(path);
    fclose(file);
    text[size] = 0;
    requests = calloc(size / 4 + 1, sizeof *requests);
    for (char *start = text; start && *start;) {
        char *end = strstr(start, "\n%%\n");
        requests[request_count].bytes = start;
        requests[request_count++].length = end ? (size_t)(end - start) : size - (size_t)(start - text);
        start = end ? end + 4 : NULL;
    }
    if (!request_count) die("no request in the file");
}

static void send_next(Connection *c) {
    size_t i = next_request++ % request_count;
    c->got = c->want = 0;
    c->started = now_us();
    if (send(c->fd, requests[i].bytes, requests[i].length, MSG_NOSIGNAL) != (ssize_t)requests[i].length) errors++;
}

static void open_connection(Connection *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    send_next(c);
}

static void parse_head(Connection *c) {
    c->in[c->got] = 0;
    char *body = strstr(c->in, "\r\n\r\n");
    if (!body) return;
    c->status = atoi(c->in + 9);
    size_t length = 0;
    c->chunked = 0;
    for (char *line = strstr(c->in, "\r\n"); line && line < body; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, "content-length:", 15)) length = strtoul(line + 17, NULL, 10);
        else if (!strncasecmp(line + 2, "transfer-encoding: chunked", 26)) c->chunked = 1;
    c->want = (size_t)(body - c->in) + 4 + length;
}

/* A chunked response ends with an empty chunk; none of those asked for has trailers. */
static int complete(const Connection *c) {
    if (!c->want) return 0;
    if (!c->chunked) return c->got >= c->want;
    return c->got >= c->want + 5 && !memcmp(c->in + c->got - 5, "0\r\n\r\n", 5);
}

static void reopen(Connection *c) {
    errors++;
    reconnects++;
    close(c->fd);
    open_connection(c);
}

static void on_readable(Connection *c) {
    ssize_t n = recv(c->fd, c->in + c->got, BUFFER - 1 - c->got, 0);
    if (n <= 0) {
        reopen(c);
        return;
    }
    c->got += (size_t)n;
    if (!c->want) parse_head(c);
    if (!complete(c)) return;
    if (c->status != 200) errors++;
    if (sample_count < MAX_SAMPLES) samples[sample_count++] = (uint32_t)(now_us() - c->started);
    send_next(c);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t quantile(double q) {
    return sample_count ? samples[(size_t)(q * (double)(sample_count - 1))] : 0;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: load HOST PORT CONNECTIONS SECONDS REQUEST_FILE\n");
        return 2;
    }
    int connections = atoi(argv[3]);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) die("host");
    load_requests(argv[5]);
    samples = malloc(sizeof *samples * MAX_SAMPLES);
    poller = epoll_create1(0);
    Connection *all = calloc((size_t)connections, sizeof *all);
    uint64_t start = now_us(), stop = start + (uint64_t)(atof(argv[4]) * 1e6);
    for (int i = 0; i < connections; i++) open_connection(&all[i]);
    struct epoll_event ready[256];
    while (now_us() < stop) {
        int count = epoll_wait(poller, ready, 256, 100);
        for (int i = 0; i < count; i++) on_readable(ready[i].data.ptr);
    }
    double seconds = (double)(now_us() - start) / 1e6;
    qsort(samples, sample_count, sizeof *samples, by_value);
    printf("{\"connections\":%d,\"seconds\":%.3f,\"requests\":%zu,\"errors\":%zu,\"reconnects\":%zu,\"requests_per_s\":%.1f,"
           "\"p50_us\":%u,\"p90_us\":%u,\"p95_us\":%u,\"p99_us\":%u,\"max_us\":%u}\n",
           connections, seconds, sample_count, errors, reconnects, (double)sample_count / seconds, quantile(0.5),
           quantile(0.9), quantile(0.95), quantile(0.99), quantile(1.0));
    return 0;
}
