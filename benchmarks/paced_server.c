/* A simulated OpenAI-compatible server that keeps time, and a diary of its own.
 *
 * What a load client reports can only be judged by a server that is itself exact, costs little, and
 * knows when it did what. One thread, one epoll: token k of a request is written at
 * arrival + ttft + k * itl, on absolute time, so that a late write makes no later one late. All that
 * is due goes out in one write. Arrival is when the kernel received the request's last byte (where
 * it says so on TCP, else when the read returned), so that a busy server does not count itself out
 * of its own TTFT; a token's time is taken just before its write. Times are CLOCK_MONOTONIC
 * nanoseconds.
 *
 *   paced_server [--port P] [--ttft-us U] [--itl-us U] [--noop] [--model NAME] [--text WORD]
 *                [--log FILE]
 *
 * prints "listening on PORT"; SIGTERM or SIGINT writes FILE and ends it. --noop answers each request
 * at once, all its tokens in one write, and keeps one time per request.
 *
 * FILE, native byte order: "WTPACED1", int64 requests, int64 times, then the requests
 * (struct served below, 32 bytes each), then the times (int64 each). benchmarks/truth.py reads it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ABORTED = 1, NOOP = 2, CHAT = 4 };
enum { DEFAULT_TOKENS = 64, MAX_TOKENS = 1 << 20, NUM_WIDTH = 7, READ_ROOM = 1 << 16 };

struct served {
    int64_t arrival_ns;
    int64_t first_time; /* index of this request's first time */
    int32_t num_times;  /* tokens written, one time each; 1 with NOOP */
    int32_t asked_tokens;
    int32_t peer_port;
    int32_t flags;
};

/* One SSE event as an HTTP chunk, with room for numbers (JSON allows blanks before a number). */
struct frame {
    char bytes[1024];
    int len;
    int num_places;
    int places[3]; /* prompt, total, completion tokens */
};

struct conn {
    int fd;
    uint32_t generation; /* tells a new connection from the timer of an old one */
    bool open, wants_out, close_after;
    int peer_port;
    char *in;
    size_t in_len, in_room, head_len, need; /* need: bytes of the request at the front, 0 unknown */
    int64_t read_ns;
    char *out;
    size_t out_len, out_at, out_room;
    /* the answer under way */
    bool busy, chat, usage, continuous;
    int asked, sent, prompt_tokens;
    int64_t arrival_ns;
    int64_t *times;
    int times_room;
};

struct timer {
    int64_t due_ns;
    int fd;
    uint32_t generation;
};

static int64_t ttft_ns = 50000000, itl_ns = 10000000;
static bool noop;
static const char *model = "m", *text = " s";
static int epoll_fd;
static struct conn **conns;
static int conns_room;
static struct timer *heap;
static int heap_len, heap_room;
static struct served *served;
static int64_t num_served, served_room;
static int64_t *times;
static int64_t num_times, times_room;
static struct frame frames[2][2][2]; /* chat, continuous usage, last token */
static struct frame role_frame, usage_frames[2];
static char *scratch;
static size_t scratch_room;

static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                                  "transfer-encoding: chunked\r\n\r\n";
static const char STREAM_TAIL[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *grown(void *old, size_t bytes) {
    void *new = realloc(old, bytes);
    if (!new) die("out of memory");
    return new;
}

/* ---- the timers: a binary heap, the soonest first ---- */

static void heap_push(struct timer timer) {
    if (heap_len == heap_room) {
        heap_room = heap_room ? 2 * heap_room : 4096;
        heap = grown(heap, sizeof *heap * heap_room);
    }
    int i = heap_len++;
    for (; i && heap[(i - 1) / 2].due_ns > timer.due_ns; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = timer;
}

static struct timer heap_pop(void) {
    struct timer top = heap[0], last = heap[--heap_len];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= heap_len) break;
        if (child + 1 < heap_len && heap[child + 1].due_ns < heap[child].due_ns) child++;
        if (heap[child].due_ns >= last.due_ns) break;
        heap[i] = heap[child];
        i = child;
    }
    if (heap_len) heap[i] = last;
    return top;
}

/* ---- what is sent ---- */

static void make_frame(struct frame *frame, const char *json) {
    char data[960];
    int n = snprintf(data, sizeof data, "data: %s\n\n", json);
    if (n >= (int)sizeof data) {
        fprintf(stderr, "paced_server: --model or --text is too long\n");
        exit(2);
    }
    frame->len = snprintf(frame->bytes, sizeof frame->bytes, "%x\r\n%s\r\n", n, data);
    frame->num_places = 0;
    for (char *at = frame->bytes; (at = strstr(at, "@@@@@@@")); at += NUM_WIDTH)
        frame->places[frame->num_places++] = at - frame->bytes;
}

static void make_frames(void) {
    static const char counts[] = "{\"prompt_tokens\":@@@@@@@,\"total_tokens\":@@@@@@@,\"completion_tokens\":@@@@@@@}";
    char json[900];
    for (int chat = 0; chat < 2; chat++) {
        const char *id = chat ? "chatcmpl-0123456789abcdef" : "cmpl-0123456789abcdef";
        const char *object = chat ? "chat.completion.chunk" : "text_completion";
        for (int continuous = 0; continuous < 2; continuous++)
            for (int last = 0; last < 2; last++) {
                char choice[300];
                snprintf(choice, sizeof choice, chat ? "\"delta\":{\"content\":\"%s\"}" : "\"text\":\"%s\"", text);
                snprintf(json, sizeof json,
                         "{\"id\":\"%s\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"%s\",\"choices\":"
                         "[{\"index\":0,%s,\"logprobs\":null,\"finish_reason\":%s}],\"usage\":%s}",
                         id, object, model, choice, last ? "\"length\"" : "null", continuous ? counts : "null");
                make_frame(&frames[chat][continuous][last], json);
            }
        snprintf(json, sizeof json,
                 "{\"id\":\"%s\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[],\"usage\":%s}",
                 id, object, model, counts);
        make_frame(&usage_frames[chat], json);
    }
    snprintf(json, sizeof json,
             "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
             "\"model\":\"%s\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
             "\"logprobs\":null,\"finish_reason\":null}]}",
             model);
    make_frame(&role_frame, json);
}

static void put_number(char *at, int value) {
    for (int i = NUM_WIDTH - 1; i >= 0; i--) {
        at[i] = value || i == NUM_WIDTH - 1 ? '0' + value % 10 : ' ';
        value /= 10;
    }
}

static char *put_frame(char *at, const struct frame *frame, const struct conn *c, int completion) {
    memcpy(at, frame->bytes, frame->len);
    if (frame->num_places == 3) {
        put_number(at + frame->places[0], c->prompt_tokens);
        put_number(at + frame->places[1], c->prompt_tokens + completion);
        put_number(at + frame->places[2], completion);
    }
    return at + frame->len;
}

static void watch(struct conn *c) {
    struct epoll_event event = {.events = EPOLLIN | (c->wants_out ? EPOLLOUT : 0u), .data.fd = c->fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event)) die("epoll_ctl");
}

static void finish(struct conn *c, int flags);

static void hang_up(struct conn *c) {
    if (c->busy) finish(c, ABORTED);
    close(c->fd);
    c->open = false;
    c->generation++;
    c->in_len = c->out_len = c->out_at = c->need = 0;
    if (c->in_room > READ_ROOM) {
        free(c->in);
        c->in = NULL;
        c->in_room = 0;
    }
}

/* False: the connection is gone. */
static bool send_all(struct conn *c, const char *data, size_t len) {
    if (c->out_len == c->out_at) {
        c->out_len = c->out_at = 0;
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            hang_up(c);
            return false;
        }
        if (n > 0) data += n, len -= n;
        if (!len) return true;
    }
    if (c->out_len + len > c->out_room) {
        c->out_room = 2 * (c->out_len + len);
        c->out = grown(c->out, c->out_room);
    }
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
    if (!c->wants_out) {
        c->wants_out = true;
        watch(c);
    }
    return true;
}

static void send_rest(struct conn *c) {
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) hang_up(c);
        return;
    }
    c->out_at += n;
    if (c->out_at == c->out_len) {
        c->out_at = c->out_len = 0;
        c->wants_out = false;
        watch(c);
        if (c->close_after && !c->busy) hang_up(c);
    }
}

/* ---- the diary ---- */

static void finish(struct conn *c, int flags) {
    int kept = noop ? 1 : c->sent;
    if (num_served == served_room) {
        served_room = served_room ? 2 * served_room : 1 << 16;
        served = grown(served, sizeof *served * served_room);
    }
    if (num_times + kept > times_room) {
        times_room = 2 * (num_times + kept) + (1 << 20);
        times = grown(times, sizeof *times * times_room);
    }
    memcpy(times + num_times, c->times, sizeof *times * kept);
    served[num_served++] = (struct served){
        .arrival_ns = c->arrival_ns,
        .first_time = num_times,
        .num_times = kept,
        .asked_tokens = c->asked,
        .peer_port = c->peer_port,
        .flags = flags | (noop ? NOOP : 0) | (c->chat ? CHAT : 0),
    };
    num_times += kept;
    c->busy = false;
}

static int write_log(const char *path) {
    FILE *file = fopen(path, "wb");
    if (!file) return -1;
    int64_t counts[2] = {num_served, num_times};
    fwrite("WTPACED1", 1, 8, file);
    fwrite(counts, sizeof counts[0], 2, file);
    fwrite(served, sizeof *served, num_served, file);
    fwrite(times, sizeof *times, num_times, file);
    return fclose(file);
}

/* ---- answering ---- */

static void take_requests(struct conn *c);

/* Write every token that is due (all of them with --noop); plan the next. */
static void write_due(struct conn *c) {
    int64_t now = now_ns();
    int due = c->sent;
    if (noop)
        due = c->asked;
    else
        while (due < c->asked && c->arrival_ns + ttft_ns + due * itl_ns <= now) due++;
    if (due > c->sent) {
        size_t room = sizeof STREAM_HEAD + sizeof STREAM_TAIL + sizeof(struct frame) * (due - c->sent + 2);
        if (room > scratch_room) scratch = grown(scratch, scratch_room = 2 * room);
        char *end = scratch;
        if (noop) {
            memcpy(end, STREAM_HEAD, sizeof STREAM_HEAD - 1);
            end += sizeof STREAM_HEAD - 1;
        }
        if (c->chat && !c->sent) end = put_frame(end, &role_frame, c, 0);
        for (int k = c->sent; k < due; k++)
            end = put_frame(end, &frames[c->chat][c->continuous][k + 1 == c->asked], c, k + 1);
        if (due == c->asked) {
            if (c->usage) end = put_frame(end, &usage_frames[c->chat], c, due);
            memcpy(end, STREAM_TAIL, sizeof STREAM_TAIL - 1);
            end += sizeof STREAM_TAIL - 1;
        }
        int64_t written = now_ns();
        if (noop)
            c->times[0] = written;
        else
            for (int k = c->sent; k < due; k++) c->times[k] = written;
        c->sent = due;
        if (!send_all(c, scratch, end - scratch)) return;
    }
    if (c->sent == c->asked) {
        finish(c, 0);
        if (c->close_after && c->out_len == c->out_at) hang_up(c);
        else take_requests(c);
        return;
    }
    heap_push((struct timer){c->arrival_ns + ttft_ns + c->sent * itl_ns, c->fd, c->generation});
}

static void answer_small(struct conn *c, const char *status, const char *body) {
    char head[1200];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                     status, strlen(body), body);
    send_all(c, head, n);
}

/* The value after "key": in a JSON body, or NULL. A key inside a string has its quotes escaped and
 * so is never found. */
static const char *value_of(const char *body, size_t len, const char *key) {
    size_t key_len = strlen(key);
    const char *end = body + len, *at = body;
    while ((at = memmem(at, end - at, key, key_len))) {
        at += key_len;
        const char *v = at;
        while (v < end && (*v == ' ' || *v == '\n' || *v == '\t' || *v == '\r')) v++;
        if (v == end || *v != ':') continue;
        for (v++; v < end && (*v == ' ' || *v == '\n' || *v == '\t' || *v == '\r'); v++);
        return v < end ? v : NULL;
    }
    return NULL;
}

static bool is_true(const char *body, size_t len, const char *key) {
    const char *v = value_of(body, len, key);
    return v && body + len - v >= 4 && !memcmp(v, "true", 4);
}

static int number_of(const char *body, size_t len, const char *key) {
    const char *v = value_of(body, len, key);
    long n = 0;
    if (!v || *v < '0' || *v > '9') return -1;
    for (; v < body + len && *v >= '0' && *v <= '9' && n <= MAX_TOKENS; v++) n = 10 * n + *v - '0';
    return n;
}

/* Token ids are counted; of text, the words. */
static int count_prompt(const char *body, size_t len) {
    const char *v = value_of(body, len, "\"prompt\""), *end = body + len;
    if (!v) v = value_of(body, len, "\"content\"");
    if (!v) return 0;
    int n = 1;
    if (*v == '[') {
        while (++v < end && *v != ']') n += *v == ',';
        return n;
    }
    while (++v < end && *v != '"') {
        if (*v == '\\') v++;
        else n += *v == ' ';
    }
    return n;
}

static void start_answer(struct conn *c, const char *body, size_t len, bool chat) {
    if (!is_true(body, len, "\"stream\"")) {
        answer_small(c, "400 Bad Request", "{\"error\":{\"message\":\"this server only streams: set stream to true\"}}");
        return;
    }
    int asked = number_of(body, len, "\"max_tokens\"");
    if (asked < 0) asked = number_of(body, len, "\"max_completion_tokens\"");
    if (asked < 0) asked = DEFAULT_TOKENS;
    if (!asked || asked > MAX_TOKENS) {
        answer_small(c, "400 Bad Request", "{\"error\":{\"message\":\"max_tokens must be 1 to 1048576\"}}");
        return;
    }
    c->busy = true;
    c->chat = chat;
    c->asked = asked;
    c->sent = 0;
    c->arrival_ns = c->read_ns;
    c->usage = is_true(body, len, "\"include_usage\"");
    c->continuous = is_true(body, len, "\"continuous_usage_stats\"");
    c->prompt_tokens = count_prompt(body, len);
    if (asked > c->times_room) c->times = grown(c->times, sizeof *c->times * (c->times_room = asked));
    if (noop || (send_all(c, STREAM_HEAD, sizeof STREAM_HEAD - 1) && ttft_ns == 0)) write_due(c);
    else if (c->open) heap_push((struct timer){c->arrival_ns + ttft_ns, c->fd, c->generation});
}

/* The value of a header, or NULL; names have no case. */
static const char *header(const char *head, size_t len, const char *name) {
    size_t name_len = strlen(name);
    const char *end = head + len;
    for (const char *line = head; (line = memmem(line, end - line, "\r\n", 2));) {
        line += 2;
        if ((size_t)(end - line) > name_len && !strncasecmp(line, name, name_len) && line[name_len] == ':') {
            for (line += name_len + 1; *line == ' '; line++);
            return line;
        }
    }
    return NULL;
}

static bool is_path(const char *head, size_t len, const char *start) {
    size_t n = strlen(start);
    return len > n && !memcmp(head, start, n) && (head[n] == ' ' || head[n] == '?');
}

static void route(struct conn *c, const char *head, size_t head_len, const char *body, size_t body_len) {
    if (is_path(head, head_len, "POST /v1/completions")) {
        start_answer(c, body, body_len, false);
    } else if (is_path(head, head_len, "POST /v1/chat/completions")) {
        start_answer(c, body, body_len, true);
    } else if (is_path(head, head_len, "GET /v1/models")) {
        char models[400];
        snprintf(models, sizeof models,
                 "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"owned_by\":\"simulated\","
                 "\"max_model_len\":131072}]}", model);
        answer_small(c, "200 OK", models);
    } else if (is_path(head, head_len, "GET /health")) {
        answer_small(c, "200 OK", "");
    } else {
        answer_small(c, "404 Not Found", "{\"error\":{\"message\":\"no such page\"}}");
    }
}

/* Answer the whole requests at the front of the buffer, one after another. */
static void take_requests(struct conn *c) {
    size_t taken = 0;
    while (c->open && !c->busy && !c->close_after) {
        const char *at = c->in + taken;
        size_t have = c->in_len - taken;
        if (!c->need) {
            const char *blank = have ? memmem(at, have, "\r\n\r\n", 4) : NULL;
            if (!blank) break;
            c->head_len = blank + 4 - at;
            const char *length = header(at, c->head_len, "content-length");
            if (header(at, c->head_len, "transfer-encoding")) {
                answer_small(c, "411 Length Required", "{\"error\":{\"message\":\"send a content-length\"}}");
                c->close_after = true;
                break;
            }
            c->need = c->head_len + (length ? strtoull(length, NULL, 10) : 0);
            const char *expect = header(at, c->head_len, "expect");
            if (expect && have < c->need && !send_all(c, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return;
        }
        if (have < c->need) break;
        const char *connection = header(at, c->head_len, "connection");
        c->close_after = connection && !strncasecmp(connection, "close", 5);
        size_t need = c->need;
        c->need = 0;
        taken += need;
        /* An answer given at once comes back here for the next request: it must find itself first. */
        char *request = malloc(need + 1);
        if (!request) die("out of memory");
        memcpy(request, at, need);
        request[need] = 0;
        memmove(c->in, c->in + taken, c->in_len - taken);
        c->in_len -= taken;
        taken = 0;
        route(c, request, c->head_len, request + c->head_len, need - c->head_len);
        free(request);
    }
    if (c->open && c->close_after && !c->busy && c->out_len == c->out_at) hang_up(c);
}

/* When the kernel had the newest of these bytes. Its clock is the wall's; the distance of the two
 * clocks is taken now, so a step of the wall clock spoils what was waiting and no more. */
static int64_t received_ns(struct msghdr *message) {
    int64_t now = now_ns();
    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SO_TIMESTAMPNS) continue;
        struct timespec t, wall;
        memcpy(&t, CMSG_DATA(at), sizeof t);
        clock_gettime(CLOCK_REALTIME, &wall);
        int64_t ago = (wall.tv_sec - t.tv_sec) * 1000000000LL + wall.tv_nsec - t.tv_nsec;
        return ago > 0 ? now - ago : now;
    }
    return now;
}

static void read_some(struct conn *c) {
    size_t wanted = c->need > c->in_len + READ_ROOM ? c->need : c->in_len + READ_ROOM;
    if (wanted > c->in_room) c->in = grown(c->in, c->in_room = wanted);
    struct iovec into = {c->in + c->in_len, c->in_room - c->in_len};
    char control[CMSG_SPACE(sizeof(struct timespec))];
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(c->fd, &message, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        hang_up(c);
        return;
    }
    c->read_ns = received_ns(&message);
    c->in_len += n;
    take_requests(c);
}

static void take_connections(int listener) {
    for (;;) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) {
            if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
            die("accept");
        }
        if (fd >= conns_room) {
            int room = 2 * fd + 256;
            conns = grown(conns, sizeof *conns * room);
            memset(conns + conns_room, 0, sizeof *conns * (room - conns_room));
            conns_room = room;
        }
        if (!conns[fd]) {
            conns[fd] = calloc(1, sizeof **conns);
            if (!conns[fd]) die("out of memory");
        }
        struct conn *c = conns[fd];
        c->fd = fd;
        c->open = true;
        c->wants_out = c->close_after = c->busy = false;
        c->peer_port = ntohs(peer.sin_port);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    }
}

/* ---- the program ---- */

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one); /* connections inherit it */
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 65535)) die("listen");
    getsockname(fd, (struct sockaddr *)&at, &len);
    printf("listening on %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static void serve(int listener, int signals) {
    struct epoll_event events[512];
    for (;;) {
        while (heap_len && heap[0].due_ns <= now_ns()) {
            struct timer timer = heap_pop();
            struct conn *c = conns[timer.fd];
            if (c->open && c->generation == timer.generation && c->busy) write_due(c);
        }
        struct timespec wait = {0, 0};
        if (heap_len) {
            int64_t left = heap[0].due_ns - now_ns();
            if (left > 0) wait = (struct timespec){left / 1000000000LL, left % 1000000000LL};
        }
        int n = epoll_pwait2(epoll_fd, events, 512, heap_len ? &wait : NULL, NULL);
        if (n < 0 && errno != EINTR) die("epoll_pwait2");
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == signals) return;
            if (fd == listener) {
                take_connections(fd);
                continue;
            }
            struct conn *c = conns[fd];
            if (c->open && events[i].events & EPOLLOUT) send_rest(c);
            if (c->open && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) read_some(c);
        }
    }
}

int main(int argc, char **argv) {
    int port = 0;
    const char *log = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--noop")) noop = true;
        else if (!value) { fprintf(stderr, "paced_server: %s needs a value or is unknown\n", argv[i]); return 2; }
        else if (!strcmp(argv[i], "--port")) port = atoi(value), i++;
        else if (!strcmp(argv[i], "--ttft-us")) ttft_ns = 1000 * atoll(value), i++;
        else if (!strcmp(argv[i], "--itl-us")) itl_ns = 1000 * atoll(value), i++;
        else if (!strcmp(argv[i], "--model")) model = value, i++;
        else if (!strcmp(argv[i], "--text")) text = value, i++;
        else if (!strcmp(argv[i], "--log")) log = value, i++;
        else { fprintf(stderr, "paced_server: unknown option %s\n", argv[i]); return 2; }
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000);        /* wait as exactly as the kernel can */
    prctl(PR_SET_PDEATHSIG, SIGTERM);      /* end with whoever started it */
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    int signals = signalfd(-1, &ending, SFD_CLOEXEC);
    make_frames();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(port);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = signals;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signals, &event);
    serve(listener, signals);
    for (int fd = 0; fd < conns_room; fd++)
        if (conns[fd] && conns[fd]->open && conns[fd]->busy) finish(conns[fd], ABORTED);
    if (log && write_log(log)) die(log);
    return 0;
}
