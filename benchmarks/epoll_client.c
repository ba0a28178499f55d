/* The limit: how little a streaming load client can cost on this machine.
 *
 * A bare C epoll client, one thread: it sends the same short request again and again, counts the SSE
 * events of each answer and takes one time per read. It parses no JSON and checks nothing, so no
 * client that does can be cheaper. Open loop sends request i at start + i / rate, late or not, and
 * counts latencies from then; closed loop keeps N users busy.
 *
 *   epoll_client --port P (--rate R | --users N) --seconds S [--tokens N] [--warmup-seconds W]
 *
 * prints one JSON object. Requests that were to be sent in the first W seconds are left out of it.
 * It reads answers as paced_server writes them: one event per token, "data: {" first in each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
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

static const char EVENT[] = "data: {";
static const char END[] = "\r\n0\r\n\r\n";
enum { EVENT_LEN = sizeof EVENT - 1, END_LEN = sizeof END - 1, DRAIN_S = 30 };

struct conn {
    int fd;
    bool busy, measured;
    int64_t intended_ns, first_ns, last_ns;
    int tokens, matched; /* matched: how much of EVENT the bytes so far end with */
    char tail[END_LEN];
    size_t tail_len;
};

struct column {
    float *at;
    size_t len, room;
};

static struct column ttft, itl, tpot, lag;
static int epoll_fd, port, num_tokens = 64;
static struct conn **idle;
static int num_idle, idle_room, num_conns;
static char request[1024];
static int request_len;
static int64_t done, done_measured, tokens_seen, failed;
static int in_flight;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void add(struct column *c, double seconds) {
    if (c->len == c->room) {
        c->room = c->room ? 2 * c->room : 1 << 20;
        c->at = realloc(c->at, sizeof *c->at * c->room);
        if (!c->at) die("out of memory");
    }
    c->at[c->len++] = seconds;
}

static struct conn *connected(void) {
    struct conn *c = calloc(1, sizeof *c);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if (!c) die("out of memory");
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* On loopback the handshake is over when connect returns, or at the next turn of the loop. */
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
    num_conns++;
    return c;
}

static void send_request(int64_t intended_ns, bool measured) {
    struct conn *c = num_idle ? idle[--num_idle] : connected();
    int64_t now = now_ns();
    if (send(c->fd, request, request_len, MSG_NOSIGNAL) != request_len) die("send");
    c->busy = true;
    c->measured = measured;
    c->intended_ns = intended_ns;
    c->tokens = c->matched = 0;
    c->tail_len = 0;
    in_flight++;
    if (measured) add(&lag, (now - intended_ns) * 1e-9);
}

/* How many events the bytes hold, where the last ones may end inside one. */
static int count_events(struct conn *c, const char *at, const char *end) {
    int n = 0;
    while (at < end) {
        if (!c->matched && !(at = memchr(at, EVENT[0], end - at))) break;
        if (*at == EVENT[c->matched]) {
            at++;
            if (++c->matched == EVENT_LEN) n++, c->matched = 0;
        } else {
            c->matched = 0;
            if (*at != EVENT[0]) at++;
        }
    }
    return n;
}

static bool ends_answer(struct conn *c, const char *bytes, size_t len) {
    char last[2 * END_LEN];
    size_t keep = len < END_LEN ? len : END_LEN;
    memcpy(last, c->tail, c->tail_len);
    memcpy(last + c->tail_len, bytes + len - keep, keep);
    size_t n = c->tail_len + keep;
    c->tail_len = n < END_LEN ? n : END_LEN;
    memcpy(c->tail, last + n - c->tail_len, c->tail_len);
    return c->tail_len == END_LEN && !memcmp(c->tail, END, END_LEN);
}

/* True: the answer is complete and the connection free. */
static bool read_some(struct conn *c) {
    static char bytes[1 << 18];
    ssize_t len = recv(c->fd, bytes, sizeof bytes, 0);
    if (len < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (len <= 0) {
        failed += c->busy;
        in_flight -= c->busy;
        close(c->fd); /* frees it from epoll; the struct is left, there are few */
        return false;
    }
    int64_t now = now_ns();
    int n = count_events(c, bytes, bytes + len);
    bool ended = ends_answer(c, bytes, len);
    if (ended) n--; /* the usage event holds no token */
    if (n > 0) {
        if (!c->tokens) {
            c->first_ns = now;
            if (c->measured) add(&ttft, (now - c->intended_ns) * 1e-9);
        } else if (c->measured) {
            add(&itl, (now - c->last_ns) * 1e-9);
        }
        if (c->measured)
            for (int k = 1; k < n; k++) add(&itl, 0.0);
        c->tokens += n;
        c->last_ns = now;
    }
    if (!ended) return false;
    c->busy = false;
    in_flight--;
    done++;
    tokens_seen += c->tokens;
    failed += c->tokens != num_tokens;
    if (c->measured) {
        done_measured++;
        if (c->tokens > 1) add(&tpot, (c->last_ns - c->first_ns) * 1e-9 / (c->tokens - 1));
    }
    if (num_idle == idle_room) {
        idle_room = idle_room ? 2 * idle_room : 1024;
        idle = realloc(idle, sizeof *idle * idle_room);
        if (!idle) die("out of memory");
    }
    idle[num_idle++] = c;
    return true;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Linear between the two nearest, as numpy does. */
static double percentile(const struct column *c, double q) {
    double at = q * (c->len - 1);
    size_t low = at;
    if (low + 1 >= c->len) return c->at[c->len - 1];
    return c->at[low] + (at - low) * (c->at[low + 1] - c->at[low]);
}

static void print_column(const char *name, struct column *c) {
    if (!c->len) {
        printf(",\"%s\":null", name);
        return;
    }
    qsort(c->at, c->len, sizeof *c->at, by_value);
    printf(",\"%s\":{\"n\":%zu,\"p50\":%.7f,\"p99\":%.7f}", name, c->len, percentile(c, 0.5), percentile(c, 0.99));
}

int main(int argc, char **argv) {
    double rate = 0, seconds = 10, warmup = 0;
    int users = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port")) port = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--rate")) rate = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--users")) users = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--seconds")) seconds = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--tokens")) num_tokens = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--warmup-seconds")) warmup = atof(argv[i + 1]);
        else { fprintf(stderr, "epoll_client: unknown option %s\n", argv[i]); return 2; }
    }
    if (!port || (rate > 0) == (users > 0)) {
        fprintf(stderr, "epoll_client: needs --port and either --rate or --users\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000);
    char body[512];
    int body_len = snprintf(body, sizeof body,
                            "{\"model\":\"m\",\"prompt\":[1,2,3,4,5,6,7,8],\"max_tokens\":%d,\"stream\":true,"
                            "\"stream_options\":{\"include_usage\":true}}", num_tokens);
    request_len = snprintf(request, sizeof request,
                           "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                           "Content-Length: %d\r\n\r\n%s", body_len, body);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[512];
    int64_t start = now_ns() + 10000000, end = start + seconds * 1e9, measure_from = start + warmup * 1e9;
    int64_t sent = 0, total = rate > 0 ? (int64_t)(rate * seconds + 0.5) : 0;
    for (int i = 0; i < users; i++, sent++) send_request(now_ns(), warmup <= 0);
    int64_t give_up = end + DRAIN_S * 1000000000LL, now = now_ns();
    while ((sent < total || in_flight) && now < give_up) {
        struct timespec wait = {0, 100000000};
        if (sent < total) {
            int64_t left = start + (int64_t)(sent * 1e9 / rate) - now_ns();
            if (left < 0) left = 0;
            if (left < wait.tv_nsec) wait.tv_nsec = left;
        }
        int n = epoll_pwait2(epoll_fd, events, 512, &wait, NULL);
        if (n < 0 && errno != EINTR) die("epoll_pwait2");
        for (int i = 0; i < n; i++)
            if (read_some(events[i].data.ptr) && users) {
                now = now_ns();
                if (now < end) send_request(now, now >= measure_from), sent++;
            }
        now = now_ns();
        while (sent < total) {
            int64_t intended = start + (int64_t)(sent * 1e9 / rate);
            if (intended > now) break;
            send_request(intended, intended >= measure_from);
            sent++;
        }
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
    double took = (now - start) * 1e-9;
    printf("{\"sent\":%lld,\"answered\":%lld,\"measured\":%lld,\"failed\":%lld,\"unanswered\":%d,\"connections\":%d,"
           "\"tokens\":%lld,\"took_s\":%.4f,\"requests_per_s\":%.2f,\"tokens_per_s\":%.1f,\"cpu_s\":%.4f,"
           "\"peak_rss_bytes\":%lld",
           (long long)sent, (long long)done, (long long)done_measured, (long long)failed, in_flight, num_conns,
           (long long)tokens_seen, took, done / took, tokens_seen / took, cpu, used.ru_maxrss * 1024LL);
    print_column("ttft_s", &ttft);
    print_column("itl_s", &itl);
    print_column("tpot_s", &tpot);
    print_column("dispatch_lag_s", &lag);
    printf("}\n");
    return failed || in_flight ? 1 : 0;
}
