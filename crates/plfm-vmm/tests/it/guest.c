// The guest of these tests: PID 1 of a tiny initramfs. What it does is the kernel command line's word `do=`.
// AF_VSOCK is opened here and nowhere else: inside the guest.
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static void end(void) {
    fflush(stdout);
    tcdrain(1);
    sync();
    reboot(RB_AUTOBOOT);
    for (;;) pause();
}

static void print_file(const char *label, const char *path) {
    char text[4096];
    int file = open(path, O_RDONLY);
    ssize_t count = file < 0 ? -1 : read(file, text, sizeof text - 1);
    text[count < 0 ? 0 : count] = 0;
    text[strcspn(text, "\n")] = 0;
    printf("%s=%s\n", label, count < 0 ? strerror(errno) : text);
    if (file >= 0) close(file);
}

static void disks(void) {
    for (char letter = 'a'; letter <= 'e'; letter++) {
        char path[16], text[9] = {0};
        snprintf(path, sizeof path, "/dev/vd%c", letter);
        int file = open(path, O_RDONLY);
        if (file >= 0 && read(file, text, 8) == 8) printf("vd%c holds %s\n", letter, text);
        if (file >= 0) close(file);
        file = open(path, O_WRONLY | O_SYNC);
        int done = file >= 0 && pwrite(file, "written!", 8, 512) == 8 && fsync(file) == 0;
        if (done || file >= 0 || errno != ENOENT) printf("vd%c write: %s\n", letter, done ? "ok" : strerror(errno));
        if (file >= 0) close(file);
    }
}

static int vsock_connect(unsigned port) {
    struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (void *)&host, sizeof host) < 0) {
        printf("vsock connect: %s\n", strerror(errno));
        end();
    }
    return fd;
}

static void vsock(const char *name) {
    // Listen first, so that the host may connect as soon as it was greeted.
    struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 5162};
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (bind(listener, (void *)&any, sizeof any) < 0 || listen(listener, 1) < 0) printf("listen: %s\n", strerror(errno));
    int host = vsock_connect(5161);
    dprintf(host, "hello from %s\n", name);
    for (;;) {
        int session = accept(listener, 0, 0);
        char text[256];
        ssize_t count;
        while ((count = read(session, text, sizeof text)) > 0) {
            if (!strncmp(text, "bye\n", 4)) end();
            if (write(session, text, count) != count) break;
        }
        close(session);
    }
}

int main(void) {
    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mount("dev", "/dev", "devtmpfs", 0, 0);
    mount("proc", "/proc", "proc", 0, 0);
    mount("sys", "/sys", "sysfs", 0, 0);
    int console = open("/dev/ttyS0", O_RDWR);
    dup2(console, 0);
    dup2(console, 1);
    dup2(console, 2);
    setvbuf(stdout, 0, _IOLBF, 0);
    // Words of the command line that no driver takes are the environment of PID 1.
    const char *action = getenv("do") ? getenv("do") : "";
    const char *name = getenv("name") ? getenv("name") : "";
    if (!strcmp(action, "hello")) {
        print_file("cmdline", "/proc/cmdline");
        print_file("uptime", "/proc/uptime");
        print_file("processors", "/sys/devices/system/cpu/online");
        print_file("rng", "/sys/class/misc/hw_random/rng_current");
        printf("hello\n");
    } else if (!strcmp(action, "disks")) {
        disks();
    } else if (!strcmp(action, "net")) {
        print_file("address", "/sys/class/net/eth0/address");
        print_file("mtu", "/sys/class/net/eth0/mtu");
    } else if (!strcmp(action, "flood")) {
        for (int line = 0; line < 4000; line++) printf("line %06d of a guest that fills the host's disk\n", line);
        printf("the last line\n");
    } else if (!strcmp(action, "panic")) {
        fflush(stdout);
        tcdrain(1);
        return 7;
    } else if (!strcmp(action, "vsock")) {
        vsock(name);
    } else if (!strcmp(action, "knock")) {
        // Tells the host that the guest runs, then stays.
        int host = vsock_connect(5161);
        dprintf(host, "here\n");
        for (;;) pause();
    }
    end();
}
