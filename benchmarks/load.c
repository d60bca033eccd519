/* The load generator: many websocket and HTTP clients in one process.
 *
 * usage: load COMMAND --port=N[,N...] [--OPTION=VALUE ...]
 *
 *   pubsub      subscribers on channels; a publisher for each channel keeps messages in flight
 *   post        connections that POST to channels without subscribers
 *   handshakes  open a websocket, close it, and again
 *   idle        subscribers that only answer pings; reads commands: "publish", "close"
 *
 * It connects to 127.0.0.1 only, to its ports by turns, and prints one line of JSON for each
 * measurement. Edge-triggered epoll, one recv for each arrival, no parsing beyond frame heads: it has to be cheaper than any
 * server. Every message carries its time of publication, by which each subscriber checks that
 * none is missing or out of place, and by which latency is taken. Exits with status 1, and a
 * line on standard error, when anything is refused, lost or late by PATIENCE.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 10.0   /* seconds without any event before giving up */
#define RING 1024       /* the most messages in flight on a channel */
#define STAMP 16        /* hexadecimal digits of a time in nanoseconds */
#define PER_ADDRESS 20000 /* connections from one source address */
#define READ (1 << 18)
#define KEPT (1 << 16)
#define PIDS 64
#define PORTS 16

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };
enum state { CLOSED, HTTP, UPGRADING, OPEN };

struct connection {
    int fd, channel;
    enum state state;
    unsigned char opcode;
    uint64_t skip;       /* payload bytes that are still to come */
    uint64_t stamp;      /* of the message that they belong to */
    uint64_t received;   /* complete messages */
    char *kept, *out;    /* input that is not parsed yet, output that did not fit */
    size_t kept_size, out_size;
};

struct channel {
    struct connection *publisher;
    uint64_t published, delivered, answered;
    uint64_t due;                /* with --rate: when the next message is to be published */
    uint64_t stamps[RING];
    int missing[RING];           /* subscribers that have not received it */
};

static struct {
    int port_count, channels, subscribers, stalled, connections, window, size, in_flight, pid_count;
    double seconds, warmup, rate;
    const char *path, *publish;
    int pids[PIDS], ports[PORTS];
} options = {.channels = 1, .subscribers = 1, .connections = 50, .window = 1, .size = 100,
             .in_flight = 100, .seconds = 2, .warmup = 0.5, .path = "/bench-", .publish = "post"};

/* What a command does when something happens. */
static struct {
    void (*opened)(struct connection *);
    void (*message)(struct connection *);
    void (*answered)(struct connection *);
    void (*parsed)(struct connection *);    /* all that was read */
    void (*ended)(struct connection *);
} on;

static int poller, commands_waiting;
/* A histogram of nanoseconds with 32 steps for each power of two. */
typedef uint64_t histogram[64 * 32];

static uint64_t serial, units;
static histogram latencies, last;   /* of all deliveries, and of each message's last one */
static char input[KEPT + READ];

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *grown(void *old, size_t size)
{
    void *new = realloc(old, size);
    if (!new)
        fail("out of memory");
    return new;
}

/* Time and processors. */

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static double own_cpu(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* User and system time of the server's processes. */
static double server_cpu(void)
{
    double seconds = 0;
    for (int i = 0; i < options.pid_count; i++) {
        char name[64], line[1024];
        unsigned long user, system;
        snprintf(name, sizeof name, "/proc/%d/stat", options.pids[i]);
        FILE *file = fopen(name, "r");
        if (!file || !fgets(line, sizeof line, file))
            fail("the server has ended: %s", name);
        fclose(file);
        char *fields = strrchr(line, ')');
        if (sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                   &system) != 2)
            fail("cannot read %s", name);
        seconds += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    return seconds;
}

static void count(histogram in, uint64_t taken)
{
    int power = 63 - __builtin_clzll(taken | 32);
    in[power * 32 + (int)((taken >> (power - 5)) & 31)]++;
}

/* In milliseconds. */
static double percentile(histogram latencies, double part)
{
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < 64 * 32; i++)
        total += latencies[i];
    for (int i = 0; i < 64 * 32; i++) {
        seen += latencies[i];
        if (total && (double)seen >= part * (double)total)
            return (double)((33 + (uint64_t)(i % 32)) << (i / 32 - 5)) / 1e6;
    }
    return 0;
}

/* Connections. */

static void flush_output(struct connection *c)
{
    while (c->out_size) {
        ssize_t sent = send(c->fd, c->out, c->out_size, MSG_NOSIGNAL);
        if (sent < 0)
            return;
        c->out_size -= (size_t)sent;
        memmove(c->out, c->out + sent, c->out_size);
    }
    free(c->out);
    c->out = NULL;
}

static void put(struct connection *c, const void *data, size_t size)
{
    ssize_t sent = c->out_size ? 0 : send(c->fd, data, size, MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return;
    if (sent < 0)
        sent = 0;    /* it is not writable, which passes, or broken, which the next read says */
    size -= (size_t)sent;
    c->out = grown(c->out, c->out_size + size);
    memcpy(c->out + c->out_size, (const char *)data + sent, size);
    c->out_size += size;
}

static void disconnect(struct connection *c)
{
    close(c->fd);
    free(c->kept);
    free(c->out);
    *c = (struct connection){.fd = -1, .channel = c->channel};
}

static void connect_to_server(struct connection *c, int channel, enum state state)
{
    int port = options.ports[serial % (uint64_t)options.port_count];
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in source = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = c};
    int one = 1;
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(serial++ / PER_ADDRESS % 32));
    *c = (struct connection){.channel = channel, .state = state};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&source, sizeof source))
        fail("bind: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

static void open_websocket(struct connection *c, int channel)
{
    char request[512];
    connect_to_server(c, channel, UPGRADING);
    int size = snprintf(request, sizeof request,
                        "GET %s%d HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                        options.path, channel);
    put(c, request, (size_t)size);
}

/* What is sent. */

static size_t frame_into(char *out, int opcode, const char *payload, size_t size)
{
    static const unsigned char mask[4] = {0x0f, 0xf0, 0x55, 0xaa};
    size_t used = 2;
    out[0] = (char)(0x80 | opcode);
    if (size < 126) {
        out[1] = (char)(0x80 | size);
    } else {
        out[1] = (char)(0x80 | 126);
        out[2] = (char)(size >> 8);
        out[3] = (char)size;
        used = 4;
    }
    memcpy(out + used, mask, 4);
    used += 4;
    for (size_t i = 0; i < size; i++)
        out[used + i] = (char)(payload[i] ^ mask[i & 3]);
    return used + size;
}

static void put_close(struct connection *c)
{
    char frame[16];
    put(c, frame, frame_into(frame, CLOSE, "\x03\xe8", 2));
}

static const char *payload(uint64_t stamp)
{
    static char text[KEPT];
    if (!text[0])
        memset(text, '.', sizeof text);
    char digits[STAMP + 1];
    snprintf(digits, sizeof digits, "%016lx", (unsigned long)stamp);
    memcpy(text, digits, STAMP);
    return text;
}

static size_t post_into(char *out, int channel, uint64_t stamp)
{
    int head = sprintf(out, "POST %s%d HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n",
                       options.path, channel, options.size);
    memcpy(out + head, payload(stamp), (size_t)options.size);
    return (size_t)(head + options.size);
}

/* What is received. */

/* How much of the input was used: a whole response, or nothing yet. */
static size_t take_response(struct connection *c, char *data, size_t size)
{
    char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return 0;
    *end = 0;
    size_t used = (size_t)(end - data) + 4;
    if (c->state == UPGRADING) {
        if (strncmp(data, "HTTP/1.1 101", 12))
            fail("refused: %.*s", (int)strcspn(data, "\r"), data);
        c->state = OPEN;
        on.opened(c);
        return used;
    }
    char *length = strcasestr(data, "\r\ncontent-length:");
    if (strncmp(data, "HTTP/1.1 20", 11) || !length)
        fail("not accepted: %.*s", (int)strcspn(data, "\r"), data);
    used += (size_t)atol(length + 17);
    *end = '\r';
    if (used > size)
        return 0;
    on.answered(c);
    return used;
}

/* How much of the input was used: the head of a frame and the stamp, or nothing yet. */
static size_t take_frame(struct connection *c, char *data, size_t size)
{
    size_t length, used = 2;
    unsigned char *bytes = (unsigned char *)data;
    if (size < 2 || (bytes[1] == 126 && size < 4))
        return 0;
    length = bytes[1];
    if (length > 126 || (bytes[0] & 0x70))
        fail("unexpected frame head: %02x %02x", bytes[0], bytes[1]);
    if (length == 126) {
        length = (size_t)(bytes[2] << 8 | bytes[3]);
        used = 4;
    }
    c->opcode = bytes[0] & 15;
    if (c->opcode == TEXT) {
        char digits[STAMP + 1] = "";
        if ((int)length != options.size)
            fail("a message of %zu bytes", length);
        if (size < used + STAMP)
            return 0;
        memcpy(digits, data + used, STAMP);
        c->stamp = strtoull(digits, NULL, 16);
        c->skip = length - STAMP;
        return used + STAMP;
    }
    if (size < used + length)
        return 0;
    if (c->opcode == PING) {
        char frame[256];
        put(c, frame, frame_into(frame, PONG, data + used, length));
    } else if (c->opcode == CLOSE) {
        on.ended(c);
    } else {
        fail("unexpected frame: opcode %d", c->opcode);
    }
    return used + length;
}

static void parse(struct connection *c, char *data, size_t size)
{
    while (c->state != CLOSED && (size || (c->opcode == TEXT && !c->skip))) {
        if (c->opcode == TEXT) {
            size_t part = size < c->skip ? size : c->skip;
            data += part;
            size -= part;
            c->skip -= part;
            if (c->skip)
                break;
            c->opcode = 0;
            on.message(c);
            continue;
        }
        size_t used = c->state == OPEN ? take_frame(c, data, size) : take_response(c, data, size);
        if (!used)
            break;
        if (c->opcode != TEXT)
            c->opcode = 0;
        data += used;
        size -= used;
    }
    if (c->state == CLOSED)
        return;
    if (size > KEPT)
        fail("a response that is too long");
    c->kept_size = size;
    if (size) {
        c->kept = grown(c->kept, size);
        memcpy(c->kept, data, size);
    } else {
        free(c->kept);
        c->kept = NULL;
    }
    if (on.parsed)
        on.parsed(c);
}

static void receive(struct connection *c)
{
    while (c->state != CLOSED) {
        size_t kept = c->kept_size;
        memcpy(input, c->kept ? c->kept : "", kept);
        ssize_t got = recv(c->fd, input + kept, READ, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            if (c->state != OPEN)
                fail("a connection was lost: %s", got ? strerror(errno) : "closed");
            on.ended(c);
            return;
        }
        parse(c, input, kept + (size_t)got);
        if (got < READ)
            return;
    }
}

static int measuring;
static uint64_t idled;   /* nanoseconds spent looking for events where there were none */

/* While measuring it does not sleep: to wake it, its kernel would use the server's time. */
static int wait_for_events(struct epoll_event *events, int most, double seconds)
{
    if (measuring) {
        uint64_t begun = now(), time = begun, end = begun + (uint64_t)(seconds * 1e9);
        int count;
        while (!(count = epoll_wait(poller, events, most, 0)) && time < end)
            time = now();
        idled += time - begun;
        return count;
    }
    struct timespec timeout = {.tv_sec = (time_t)seconds};
    timeout.tv_nsec = (long)((seconds - (double)timeout.tv_sec) * 1e9);
    return epoll_pwait2(poller, events, most, &timeout, NULL);
}

/* Let happen what happens, for at most some seconds; whether anything did. */
static int turn(double seconds)
{
    struct epoll_event events[256];
    int count = wait_for_events(events, 256, seconds);
    for (int i = 0; i < count; i++) {
        struct connection *c = events[i].data.ptr;
        if (!c) {
            commands_waiting = 1;
            continue;
        }
        if (c->state != CLOSED && c->out_size && (events[i].events & EPOLLOUT))
            flush_output(c);
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            receive(c);
    }
    return count > 0;
}

static void turn_or_fail(const char *what)
{
    if (!turn(PATIENCE))
        fail("nothing happened for %.0f s: %s", PATIENCE, what);
}

static struct connection *allocate(int count)
{
    struct connection *all = calloc((size_t)count, sizeof *all);
    if (!all)
        fail("out of memory");
    return all;
}

static int opened_count, ended_count;

static void count_opened(struct connection *c)
{
    (void)c;
    opened_count++;
}

static void lost(struct connection *c)
{
    fail("the server closed channel %d", c->channel);
}

/* Open one websocket for each connection, number i on channel i modulo channels. */
static void open_all(struct connection *all, int count)
{
    int begun = 0;
    on.opened = count_opened;
    while (opened_count < count) {
        while (begun < count && begun - opened_count < options.in_flight) {
            open_websocket(&all[begun], begun % options.channels);
            begun++;
        }
        turn_or_fail("handshakes");
    }
    /* Some servers subscribe a little later than they say. */
    uint64_t end = now() + 300000000;
    while (now() < end)
        turn(0.1);
}

/* Warm up, measure for some seconds, print. */
static void measure(void (*step)(void))
{
    uint64_t end = now() + (uint64_t)(options.warmup * 1e9);
    measuring = 1;
    while (now() < end)
        step();
    units = idled = 0;
    memset(latencies, 0, sizeof latencies);
    memset(last, 0, sizeof last);
    double server = server_cpu(), own = own_cpu();
    uint64_t begun = now();
    end = begun + (uint64_t)(options.seconds * 1e9);
    while (now() < end)
        step();
    double seconds = (double)(now() - begun) / 1e9;
    printf("{\"units\": %lu, \"seconds\": %.4f, \"server_cpu\": %.3f, \"generator_cpu\": %.3f, "
           "\"p50\": %.4f, \"p90\": %.4f, \"p99\": %.4f, \"p999\": %.4f, "
           "\"last_p50\": %.4f}\n",
           (unsigned long)units, seconds, server_cpu() - server,
           own_cpu() - own - (double)idled / 1e9, percentile(latencies, 0.5),
           percentile(latencies, 0.9), percentile(latencies, 0.99),
           percentile(latencies, 0.999), percentile(last, 0.5));
}

static void answer_events(void)
{
    turn_or_fail("measuring");
}

/* pubsub */

static struct channel *channels;

static void publish(struct channel *channel, int number)
{
    static char batch[1 << 21];
    size_t size = 0;
    int by_post = channel->publisher->state == HTTP;
    uint64_t time = now();
    for (;;) {
        uint64_t done = channel->delivered;
        if (by_post && channel->answered < done)
            done = channel->answered;
        if (channel->published - done >= (uint64_t)options.window ||
            size + KEPT + 1024 > sizeof batch || (options.rate > 0 && time < channel->due))
            break;
        /* With a rate, what is late counts from when it should have been published. */
        uint64_t stamp = options.rate > 0 ? channel->due : time;
        unsigned place = channel->published++ % RING;
        channel->stamps[place] = stamp;
        channel->missing[place] = options.subscribers;
        if (by_post)
            size += post_into(batch + size, number, stamp);
        else
            size += frame_into(batch + size, TEXT, payload(stamp), (size_t)options.size);
        if (options.rate > 0)
            channel->due += (uint64_t)(1e9 / options.rate);
    }
    if (size)
        put(channel->publisher, batch, size);
}

static void delivered(struct connection *c)
{
    struct channel *channel = &channels[c->channel];
    unsigned place = c->received++ % RING;
    uint64_t taken = now() - c->stamp;
    if (c->received > channel->published || channel->stamps[place] != c->stamp)
        fail("a message is missing or out of order");
    units++;
    count(latencies, taken);
    if (!--channel->missing[place]) {
        channel->delivered++;
        count(last, taken);
    }
}

static void post_answered(struct connection *c)
{
    channels[c->channel].answered++;
}

static void publish_more(struct connection *c)
{
    if (c->state != UPGRADING && channels[c->channel].publisher)
        publish(&channels[c->channel], c->channel);
}

static void publish_what_is_due(void)
{
    uint64_t time = now(), next = UINT64_MAX;
    for (int i = 0; i < options.channels; i++) {
        publish(&channels[i], i);
        if (channels[i].due < next)
            next = channels[i].due;
    }
    turn(next > time ? (double)(next - time) / 1e9 : 0);
}

static int on_their_way;

static void stall(struct connection *c)
{
    if (epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL))
        fail("epoll_ctl: %s", strerror(errno));
    on_their_way--;
}

/* Subscribers of the first channel that read the answer to their handshake, and nothing more. */
static void open_stalled(void)
{
    struct connection *all = allocate(options.stalled);
    int little = 4096;
    on.opened = stall;
    on_their_way = options.stalled;
    for (int i = 0; i < options.stalled; i++) {
        open_websocket(&all[i], 0);
        setsockopt(all[i].fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    }
    while (on_their_way)
        turn_or_fail("handshakes");
}

static void pubsub(void)
{
    int count = options.channels * options.subscribers, by_post = !strcmp(options.publish, "post");
    struct connection *all = allocate(count), *posting = allocate(options.channels);
    channels = calloc((size_t)options.channels, sizeof *channels);
    if (!channels || options.window > RING || options.size < STAMP)
        fail("too much, or too little");
    on.ended = lost;
    on.message = delivered;
    on.answered = post_answered;
    on.parsed = publish_more;
    open_stalled();
    open_all(all, count);
    if (options.rate > 0)
        options.window = RING;
    for (int i = 0; i < options.channels; i++) {
        if (by_post)
            connect_to_server(&posting[i], i, HTTP);
        channels[i].publisher = by_post ? &posting[i] : &all[i];
        /* With --rate: one after the other, not all at once and then none for a while. */
        channels[i].due = now();
        if (options.rate > 0)
            channels[i].due += (uint64_t)(1e9 / options.rate / options.channels * i);
        publish(&channels[i], i);
    }
    measure(options.rate > 0 ? publish_what_is_due : answer_events);
}

/* post */

static void request_more(struct connection *c)
{
    static char batch[1 << 21];
    size_t size = 0;
    if (c->received % (uint64_t)options.window || c->kept_size)
        return;
    for (int i = 0; i < options.window; i++)
        size += post_into(batch + size, c->channel, 0);
    c->stamp = now();
    put(c, batch, size);
}

static void request_answered(struct connection *c)
{
    units++;
    c->received++;
    count(latencies, now() - c->stamp);
}

static void post(void)
{
    struct connection *all = allocate(options.connections);
    on.answered = request_answered;
    on.parsed = request_more;
    for (int i = 0; i < options.connections; i++) {
        connect_to_server(&all[i], i, HTTP);
        request_more(&all[i]);
    }
    measure(answer_events);
}

/* handshakes */

static void close_again(struct connection *c)
{
    put_close(c);
}

static void open_again(struct connection *c)
{
    int channel = c->channel;
    units++;
    count(latencies, now() - c->stamp);
    disconnect(c);
    open_websocket(c, channel);
    c->stamp = now();
}

static void handshakes(void)
{
    struct connection *all = allocate(options.in_flight);
    on.opened = close_again;
    on.ended = open_again;
    for (int i = 0; i < options.in_flight; i++)
        open_websocket(&all[i], i);
    measure(answer_events);
}

/* idle */

static int arrived_count;

static void count_arrived(struct connection *c)
{
    arrived_count++;
    count(latencies, now() - c->stamp);
}

static void count_ended(struct connection *c)
{
    ended_count++;
    disconnect(c);
}

static void post_next(struct connection *c)
{
    char request[KEPT + 1024];
    if (++c->channel < options.channels)
        put(c, request, post_into(request, c->channel, now()));
}

static void idle(void)
{
    struct connection *all = allocate(options.connections), posting;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    char command[64];
    uint64_t begun = now();
    int alive = 1;
    on.ended = lost;
    on.message = count_arrived;
    on.answered = post_next;
    open_all(all, options.connections);
    printf("{\"seconds\": %.3f}\n", (double)(now() - begun) / 1e9 - 0.3);
    fflush(stdout);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        fail("epoll_ctl: %s", strerror(errno));
    while (alive) {
        turn(PATIENCE);
        if (!commands_waiting)
            continue;
        commands_waiting = 0;
        /* Whoever gives the commands has ended: so is this. */
        ssize_t got = read(STDIN_FILENO, command, sizeof command);
        alive = got > 0 && !strncmp(command, "publish", 7);
        begun = now();
        if (alive) {
            arrived_count = 0;
            memset(latencies, 0, sizeof latencies);
            connect_to_server(&posting, -1, HTTP);
            post_next(&posting);
            while (arrived_count < options.connections)
                turn_or_fail("one message to everyone");
            disconnect(&posting);
        } else {
            on.ended = count_ended;
            for (int i = 0; i < options.connections; i++)
                put_close(&all[i]);
            while (ended_count < options.connections)
                turn_or_fail("closing");
        }
        printf("{\"seconds\": %.3f, \"p50\": %.4f, \"p99\": %.4f}\n", (double)(now() - begun) / 1e9,
               percentile(latencies, 0.5), percentile(latencies, 0.99));
        fflush(stdout);
    }
}

/* The command line. */

static int read_numbers(char *list, int *numbers, int most)
{
    int count = 0;
    for (char *each = strtok(list, ","); each && count < most; each = strtok(NULL, ","))
        numbers[count++] = atoi(each);
    return count;
}

static void read_options(int count, char **arguments)
{
    static const struct option known[] = {
        {"port", 1, NULL, 'p'},     {"path", 1, NULL, 'u'},      {"channels", 1, NULL, 'c'},
        {"subscribers", 1, NULL, 'n'}, {"connections", 1, NULL, 'k'}, {"window", 1, NULL, 'w'},
        {"size", 1, NULL, 's'},     {"in-flight", 1, NULL, 'f'}, {"seconds", 1, NULL, 't'},
        {"warmup", 1, NULL, 'm'},   {"rate", 1, NULL, 'r'},      {"publish", 1, NULL, 'b'},
        {"pids", 1, NULL, 'i'},     {"stalled", 1, NULL, 'd'},   {NULL, 0, NULL, 0}};
    for (int each; (each = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (each) {
        case 'p': options.port_count = read_numbers(optarg, options.ports, PORTS); break;
        case 'u': options.path = optarg; break;
        case 'c': options.channels = atoi(optarg); break;
        case 'n': options.subscribers = atoi(optarg); break;
        case 'd': options.stalled = atoi(optarg); break;
        case 'k': options.connections = atoi(optarg); break;
        case 'w': options.window = atoi(optarg); break;
        case 's': options.size = atoi(optarg); break;
        case 'f': options.in_flight = atoi(optarg); break;
        case 't': options.seconds = atof(optarg); break;
        case 'm': options.warmup = atof(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'b': options.publish = optarg; break;
        case 'i': options.pid_count = read_numbers(optarg, options.pids, PIDS); break;
        default: exit(2);
        }
    }
    if (!options.port_count || options.size < STAMP || options.size > 1 << 15
        || options.window > RING)
        fail("an option is missing or out of bounds");
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } known[] = {{"pubsub", pubsub}, {"post", post}, {"handshakes", handshakes}, {"idle", idle}};
    struct rlimit files;
    if (count < 2)
        fail("usage: load pubsub|post|handshakes|idle --port=N ...");
    read_options(count - 1, arguments + 1);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!strcmp(known[i].name, arguments[1])) {
            known[i].run();
            return 0;
        }
    }
    fail("no such command: %s", arguments[1]);
}
