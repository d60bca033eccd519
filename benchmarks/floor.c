/* The floor: one channel, no names, no checks; one send for each subscriber and message.
 *
 * usage: floor PORT
 *
 * What the kernel alone costs. It answers a websocket handshake with a fixed key, sends each
 * message to all subscribers at once, and takes requests for granted: one read holds whole
 * requests and whole frames, or is kept until it does. Not a server for anything else.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 100000
#define ROOM (1 << 18)

static const char UPGRADED[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char OK[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nOK\n";

static int subscribers[MOST], place[MOST], count;
static struct {
    char *data;
    size_t size;
} kept[MOST];

static void end(int fd)
{
    if (place[fd]) {
        int last = subscribers[--count];
        subscribers[place[fd] - 1] = last;
        place[last] = place[fd];
        place[fd] = 0;
    }
    free(kept[fd].data);
    kept[fd].data = NULL;
    kept[fd].size = 0;
    close(fd);
}

static void publish(const char *payload, size_t size)
{
    static char frame[ROOM];
    size_t head = size < 126 ? 2 : 4;
    frame[0] = (char)0x81;
    frame[1] = (char)(size < 126 ? size : 126);
    if (size > 125) {
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
    }
    memcpy(frame + head, payload, size);
    for (int i = 0; i < count; i++) {
        ssize_t sent = send(subscribers[i], frame, head + size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0 && sent < (ssize_t)(head + size))
            abort();    /* the peer does not read: no measurement */
    }
}

/* How much was used: a request, a frame, or nothing yet; -1 at the end. */
static long take(int fd, char *data, size_t size)
{
    if (place[fd]) {
        unsigned char *bytes = (unsigned char *)data;
        size_t head = 6, length;
        if (size < 8)
            return 0;
        length = bytes[1] & 127;
        if (length == 126) {
            length = (size_t)(bytes[2] << 8 | bytes[3]);
            head = 8;
        }
        if ((bytes[0] & 15) == 8) {
            send(fd, "\x88\x02\x03\xe8", 4, MSG_NOSIGNAL);
            return -1;
        }
        if (size < head + length)
            return 0;
        for (size_t i = 0; i < length; i++)
            data[head + i] ^= data[head - 4 + (i & 3)];
        publish(data + head, length);
        return (long)(head + length);
    }
    char *blank = memmem(data, size, "\r\n\r\n", 4);
    if (!blank)
        return 0;
    size_t used = (size_t)(blank - data) + 4;
    if (*data == 'G') {
        subscribers[count++] = fd;
        place[fd] = count;
        send(fd, UPGRADED, sizeof UPGRADED - 1, MSG_NOSIGNAL);
        return (long)used;
    }
    char *field = memmem(data, used, "Content-Length: ", 16);
    size_t length = field ? (size_t)atol(field + 16) : 0;
    if (used + length > size)
        return 0;
    publish(data + used, length);
    send(fd, OK, sizeof OK - 1, MSG_NOSIGNAL);
    return (long)(used + length);
}

static void receive(int fd)
{
    static char input[2 * ROOM];
    size_t size = kept[fd].size;
    memcpy(input, size ? kept[fd].data : "", size);
    ssize_t got = recv(fd, input + size, ROOM, 0);
    if (got <= 0) {
        end(fd);
        return;
    }
    size += (size_t)got;
    char *data = input;
    for (long used; size && (used = take(fd, data, size));) {
        if (used < 0) {
            end(fd);
            return;
        }
        data += used;
        size -= (size_t)used;
    }
    free(kept[fd].data);
    kept[fd].data = size ? malloc(size) : NULL;
    kept[fd].size = size;
    if (size)
        memcpy(kept[fd].data, data, size);
}

int main(int arguments, char **argument)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0), one = 1;
    address.sin_port = htons((unsigned short)(arguments > 1 ? atoi(argument[1]) : 0));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("floor");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (int ready; (ready = epoll_wait(poller, events, 256, -1)) >= 0;) {
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != listener) {
                receive(events[i].data.fd);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            if (fd < 0 || fd >= MOST)
                return 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event.data.fd = fd;
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        }
    }
    return 0;
}
