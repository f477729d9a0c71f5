/* A TCP proxy on loopback that delays everything: slow_network PORT MICROSECONDS_EACH_WAY

   It prints the port that it listens on, and runs until it gets a signal. It is written in C, with a thread for each
   direction, so that it does not limit what is measured. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct direction {
    int from, to;
};

static struct timespec delay;
static struct sockaddr_in far;

static void *carry(void *argument) {
    struct direction *way = argument;
    char data[65536];
    ssize_t size, sent, part;
    while ((size = read(way->from, data, sizeof data)) > 0) {
        if (delay.tv_nsec || delay.tv_sec)
            nanosleep(&delay, NULL);
        for (sent = 0; sent < size; sent += part)
            if ((part = write(way->to, data + sent, size - sent)) <= 0)
                size = 0;
    }
    shutdown(way->to, SHUT_RDWR); /* this ends the other direction too; descriptors are closed with the process */
    free(way);
    return NULL;
}

static void start(int from, int to) {
    int on = 1;
    pthread_t thread;
    struct direction *way = malloc(sizeof *way);
    way->from = from, way->to = to;
    setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (pthread_create(&thread, NULL, carry, way))
        exit(1);
    pthread_detach(thread);
}

int main(int count, char **arguments) {
    struct sockaddr_in near = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof near;
    int entrance = socket(AF_INET, SOCK_STREAM, 0);
    if (count != 3 || entrance < 0)
        return 2;
    far = near;
    far.sin_port = htons(atoi(arguments[1]));
    long long nanoseconds = atoll(arguments[2]) * 1000;
    delay.tv_sec = nanoseconds / 1000000000, delay.tv_nsec = nanoseconds % 1000000000;
    if (bind(entrance, (struct sockaddr *)&near, size) || listen(entrance, 128) ||
        getsockname(entrance, (struct sockaddr *)&near, &size))
        return 1;
    printf("%d\n", ntohs(near.sin_port));
    fflush(stdout);
    for (;;) {
        int client = accept(entrance, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
        if (client < 0 || server < 0 || connect(server, (struct sockaddr *)&far, sizeof far))
            return 1;
        start(client, server);
        start(server, client);
    }
}
