/* The limit of starting processes on this machine: N times a program, C in flight, nothing recorded.

   Each process leads a session of its own and writes its output to two files, as a task's does.
   usage: spawn_limit N IN_FLIGHT FOLDER PROGRAM; prints the seconds it took. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void start(long number, const char *folder, char *program) {
    char out[4096], err[4096];
    snprintf(out, sizeof out, "%s/%ld.out", folder, number);
    snprintf(err, sizeof err, "%s/%ld.err", folder, number);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&files, 2, err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawnattr_t how;
    posix_spawnattr_init(&how);
#ifdef POSIX_SPAWN_SETSID
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSID);
#endif
    char *arguments[] = {program, NULL};
    pid_t pid;
    if (posix_spawn(&pid, program, &files, &how, arguments, environ) != 0) {
        perror(program);
        exit(1);
    }
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: %s N IN_FLIGHT FOLDER PROGRAM\n", argv[0]);
        return 2;
    }
    long count = atol(argv[1]), in_flight = atol(argv[2]), started = 0, ended = 0;
    double begin = now();
    while (ended < count) {
        while (started < count && started - ended < in_flight)
            start(started++, argv[3], argv[4]);
        if (wait(NULL) > 0)
            ended++;
    }
    printf("%.6f\n", now() - begin);
    return 0;
}
