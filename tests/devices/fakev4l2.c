/* A V4L2 webcam for tests, preloaded: OpenCV's real V4L2 backend opens it as /dev/video0.

   gcc -O2 -fPIC -shared -o fakev4l2.so fakev4l2.c -ldl -lpthread
   FAKECAM_SOCKET=camera.sock LD_PRELOAD=./fakev4l2.so python ...

   Pictures come from a process of their own (camera_feeder.py) through a UNIX stream socket. Where
   nobody listens there, the camera isn't plugged in. FAKECAM_ERRNO makes open() fail with it.

   To the feeder, when streaming starts:  "MJPG 1280 720 30\n"
   From the feeder, for each picture:     u32 'FRAM', u32 length, u64 monotonic ns, the picture

   It behaves as the uvcvideo driver: YUYV and MJPG, three sizes, up to eight buffers that are
   dropped into when the reader is late, stamps on CLOCK_MONOTONIC, EBUSY for a second reader,
   ENODEV once unplugged. The descriptor is an eventfd that counts filled buffers, so that select
   and poll work. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define BUFFERS 8
#define MAX_PICTURE (1280 * 720 * 2)
#define MAGIC 0x4d415246 /* 'FRAM' */

static const uint32_t SIZES[][2] = {{640, 480}, {320, 240}, {1280, 720}};
static const uint32_t FORMATS[] = {V4L2_PIX_FMT_YUYV, V4L2_PIX_FMT_MJPEG};
static const uint32_t RATES[] = {30, 15, 10};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static struct {
    int used, fd, socket, streaming, gone, stop, nonblocking, started;
    uint32_t format, width, height, fps, sequence;
    int buffers, queued[BUFFERS], queue_length, done[BUFFERS], done_length;
    struct v4l2_buffer buffer[BUFFERS];
    pthread_t receiver;
} cam = {.fd = -1, .socket = -1};
static void *memory[BUFFERS]; /* outlives the device: OpenCV unmaps late */

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_ioctl)(int, unsigned long, ...);
static int (*real_close)(int);
static int (*real_stat)(const char *, struct stat *);
static void *(*real_mmap)(void *, size_t, int, int, int, off_t);
static int (*real_munmap)(void *, size_t);

__attribute__((constructor)) static void find_real(void) {
    if (real_munmap) return;
    real_open = dlsym(RTLD_NEXT, "open");
    real_openat = dlsym(RTLD_NEXT, "openat");
    real_ioctl = dlsym(RTLD_NEXT, "ioctl");
    real_close = dlsym(RTLD_NEXT, "close");
    real_stat = dlsym(RTLD_NEXT, "stat");
    real_mmap = dlsym(RTLD_NEXT, "mmap");
    real_munmap = dlsym(RTLD_NEXT, "munmap");
}

static int fail(int error) {
    errno = error;
    return -1;
}

static int is_camera(const char *path) {
    return path && getenv("FAKECAM_SOCKET") && !strcmp(path, "/dev/video0");
}

static int is_camera_fd(int fd) { return fd >= 0 && cam.used && fd == cam.fd; }

static uint32_t picture_bytes(void) { return cam.width * cam.height * 2; }

static int connect_feeder(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, getenv("FAKECAM_SOCKET"), sizeof address.sun_path - 1);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(s, (void *)&address, sizeof address)) {
        real_close(s);
        return -1;
    }
    return s;
}

static int receive_all(int s, void *to, size_t n) {
    for (char *at = to; n;) {
        ssize_t got = recv(s, at, n, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return -1;
        at += got;
        n -= got;
    }
    return 0;
}

static void wake_reader(void) {
    uint64_t one = 1;
    if (write(cam.fd, &one, sizeof one) < 0) return;
}

/* The "hardware": fills queued buffers, drops pictures when none is queued. */
static void *receiver(void *unused) {
    int s = cam.socket;
    uint8_t *picture = malloc(MAX_PICTURE);
    char request[64];
    int n = snprintf(request, sizeof request, "%.4s %u %u %u\n", (char *)&cam.format, cam.width,
                     cam.height, cam.fps);
    send(s, request, n, MSG_NOSIGNAL);
    struct { uint32_t magic, length; uint64_t ns; } head;
    while (!receive_all(s, &head, sizeof head) && head.magic == MAGIC &&
           head.length <= MAX_PICTURE && !receive_all(s, picture, head.length)) {
        pthread_mutex_lock(&lock);
        if (cam.stop) {
            pthread_mutex_unlock(&lock);
            break;
        }
        cam.sequence++;
        if (cam.queue_length) {
            int i = cam.queued[0];
            memmove(cam.queued, cam.queued + 1, --cam.queue_length * sizeof(int));
            struct v4l2_buffer *b = &cam.buffer[i];
            b->bytesused = head.length < picture_bytes() ? head.length : picture_bytes();
            memcpy(memory[i], picture, b->bytesused);
            b->sequence = cam.sequence;
            b->timestamp.tv_sec = head.ns / 1000000000u;
            b->timestamp.tv_usec = head.ns % 1000000000u / 1000;
            cam.done[cam.done_length++] = i;
            wake_reader();
            pthread_cond_broadcast(&changed);
        }
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    if (!cam.stop) {
        cam.gone = 1;
        wake_reader();
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    free(picture);
    return unused;
}

static int open_camera(int flags) {
    const char *error = getenv("FAKECAM_ERRNO");
    if (error) return fail(atoi(error));
    pthread_mutex_lock(&lock);
    int fd = -1;
    int s = cam.used ? -1 : connect_feeder();
    if (cam.used) {
        errno = EBUSY;
    } else if (s < 0) {
        errno = ENOENT;
    } else {
        memset(&cam, 0, sizeof cam);
        cam.fd = -1;
        cam.used = 1;
        cam.socket = s;
        cam.format = FORMATS[0];
        cam.width = SIZES[0][0];
        cam.height = SIZES[0][1];
        cam.fps = RATES[0];
        cam.nonblocking = !!(flags & O_NONBLOCK);
        fd = cam.fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static void stop_streaming(void) {
    if (cam.streaming) {
        cam.stop = 1;
        cam.streaming = 0;
        shutdown(cam.socket, SHUT_RDWR);
        pthread_mutex_unlock(&lock);
        pthread_join(cam.receiver, NULL);
        pthread_mutex_lock(&lock);
    }
    cam.queue_length = cam.done_length = 0;
    uint64_t count;
    while (cam.fd >= 0 && read(cam.fd, &count, sizeof count) == sizeof count) continue;
}

static int start_streaming(void) {
    if (cam.streaming) return 0;
    if (cam.started) { /* the feeder serves one stream a connection */
        real_close(cam.socket);
        cam.socket = connect_feeder();
        if (cam.socket < 0) {
            cam.gone = 1;
            return fail(ENODEV);
        }
    }
    cam.stop = 0;
    cam.started = cam.streaming = 1;
    pthread_create(&cam.receiver, NULL, receiver, NULL);
    return 0;
}

static void describe_format(struct v4l2_pix_format *p) {
    p->width = cam.width;
    p->height = cam.height;
    p->pixelformat = cam.format;
    p->field = V4L2_FIELD_NONE;
    p->bytesperline = cam.format == V4L2_PIX_FMT_YUYV ? cam.width * 2 : 0;
    p->sizeimage = picture_bytes();
    p->colorspace = V4L2_COLORSPACE_SRGB;
}

/* The nearest size, as drivers do. */
static int set_format(struct v4l2_format *f, int only_try) {
    uint32_t width = cam.width, height = cam.height, format = cam.format;
    long nearest = -1;
    int best = 0;
    for (int i = 0; i < 3; i++) {
        long off = labs((long)SIZES[i][0] * SIZES[i][1] - (long)f->fmt.pix.width * f->fmt.pix.height);
        if (nearest < 0 || off < nearest) {
            nearest = off;
            best = i;
        }
    }
    cam.width = SIZES[best][0];
    cam.height = SIZES[best][1];
    cam.format = f->fmt.pix.pixelformat == V4L2_PIX_FMT_MJPEG ? V4L2_PIX_FMT_MJPEG : V4L2_PIX_FMT_YUYV;
    describe_format(&f->fmt.pix);
    if (only_try) {
        cam.width = width;
        cam.height = height;
        cam.format = format;
    }
    return 0;
}

static int set_rate(struct v4l2_streamparm *p, int set) {
    struct v4l2_fract *t = &p->parm.capture.timeperframe;
    if (set && t->numerator) {
        uint32_t asked = t->denominator / t->numerator;
        cam.fps = asked >= 23 ? 30 : asked >= 13 ? 15 : 10;
    }
    memset(&p->parm.capture, 0, sizeof p->parm.capture);
    p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    t->numerator = 1;
    t->denominator = cam.fps;
    return 0;
}

static int request_buffers(struct v4l2_requestbuffers *r) {
    if (r->memory != V4L2_MEMORY_MMAP) return fail(EINVAL);
    if (r->count == 0) stop_streaming();
    if (r->count > BUFFERS) r->count = BUFFERS;
    for (uint32_t i = 0; i < r->count; i++) {
        if (!memory[i])
            memory[i] = real_mmap(NULL, MAX_PICTURE, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cam.buffer[i] = (struct v4l2_buffer){
            .index = i, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP,
            .length = (picture_bytes() + 4095) & ~4095u, .m.offset = i << 22,
            .field = V4L2_FIELD_NONE};
    }
    cam.buffers = r->count;
    r->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP;
    return 0;
}

static int take_buffer(struct v4l2_buffer *b) {
    while (!cam.done_length && !cam.nonblocking && !cam.gone) pthread_cond_wait(&changed, &lock);
    if (!cam.done_length) return fail(cam.gone ? ENODEV : EAGAIN);
    int i = cam.done[0];
    memmove(cam.done, cam.done + 1, --cam.done_length * sizeof(int));
    uint64_t count;
    if (read(cam.fd, &count, sizeof count) < 0) return fail(EIO);
    *b = cam.buffer[i];
    b->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_MAPPED;
    return 0;
}

static int handle(unsigned long request, void *argument) {
    if (cam.gone && request != VIDIOC_STREAMOFF && request != VIDIOC_REQBUFS) return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *c = argument;
        memset(c, 0, sizeof *c);
        strcpy((char *)c->driver, "uvcvideo");
        strcpy((char *)c->card, "Fake UVC Camera");
        strcpy((char *)c->bus_info, "usb-fake-1");
        c->version = 0x60000;
        c->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        c->capabilities = c->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_ENUMINPUT: {
        struct v4l2_input *i = argument;
        if (i->index) return fail(EINVAL);
        memset(i, 0, sizeof *i);
        strcpy((char *)i->name, "Camera 1");
        i->type = V4L2_INPUT_TYPE_CAMERA;
        return 0;
    }
    case VIDIOC_G_INPUT:
        *(int *)argument = 0;
        return 0;
    case VIDIOC_S_INPUT:
        return *(int *)argument ? fail(EINVAL) : 0;
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *f = argument;
        if (f->index >= 2 || f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
        f->pixelformat = FORMATS[f->index];
        f->flags = f->index ? V4L2_FMT_FLAG_COMPRESSED : 0;
        strcpy((char *)f->description, f->index ? "Motion-JPEG" : "YUYV 4:2:2");
        return 0;
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *s = argument;
        if (s->index >= 3) return fail(EINVAL);
        s->type = V4L2_FRMSIZE_TYPE_DISCRETE;
        s->discrete.width = SIZES[s->index][0];
        s->discrete.height = SIZES[s->index][1];
        return 0;
    }
    case VIDIOC_ENUM_FRAMEINTERVALS: {
        struct v4l2_frmivalenum *s = argument;
        if (s->index >= 3) return fail(EINVAL);
        s->type = V4L2_FRMIVAL_TYPE_DISCRETE;
        s->discrete.numerator = 1;
        s->discrete.denominator = RATES[s->index];
        return 0;
    }
    case VIDIOC_G_FMT: {
        struct v4l2_format *f = argument;
        if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
        describe_format(&f->fmt.pix);
        return 0;
    }
    case VIDIOC_TRY_FMT:
    case VIDIOC_S_FMT: {
        struct v4l2_format *f = argument;
        if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
        if (request == VIDIOC_S_FMT && cam.buffers) return fail(EBUSY);
        return set_format(f, request == VIDIOC_TRY_FMT);
    }
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM:
        return set_rate(argument, request == VIDIOC_S_PARM);
    case VIDIOC_REQBUFS:
        return request_buffers(argument);
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *b = argument;
        if ((int)b->index >= cam.buffers) return fail(EINVAL);
        *b = cam.buffer[b->index];
        return 0;
    }
    case VIDIOC_QBUF: {
        struct v4l2_buffer *b = argument;
        if ((int)b->index >= cam.buffers) return fail(EINVAL);
        cam.queued[cam.queue_length++] = b->index;
        return 0;
    }
    case VIDIOC_DQBUF:
        return take_buffer(argument);
    case VIDIOC_STREAMON:
        return start_streaming();
    case VIDIOC_STREAMOFF:
        stop_streaming();
        return 0;
    default:
        return fail(ENOTTY);
    }
}

/* What the program calls. */

#define MODE                                                  \
    va_list rest;                                             \
    va_start(rest, flags);                                    \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                             \
    find_real()

int open(const char *path, int flags, ...) {
    MODE;
    return is_camera(path) ? open_camera(flags) : real_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE;
    return is_camera(path) ? open_camera(flags) : real_open(path, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE;
    return is_camera(path) ? open_camera(flags) : real_openat(folder, path, flags, mode);
}

int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }

int close(int fd) {
    find_real();
    if (is_camera_fd(fd)) {
        pthread_mutex_lock(&lock);
        stop_streaming();
        real_close(cam.socket);
        cam.used = 0;
        cam.fd = -1;
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    find_real();
    if (!is_camera_fd(fd)) return real_ioctl(fd, request, argument);
    pthread_mutex_lock(&lock);
    int result = handle(request & 0xffffffff, argument);
    pthread_mutex_unlock(&lock);
    return result;
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    find_real();
    if (!is_camera_fd(fd)) return real_mmap(at, n, protection, flags, fd, offset);
    int i = offset >> 22;
    if (i < BUFFERS && memory[i]) return memory[i];
    errno = EINVAL;
    return MAP_FAILED;
}

void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset) {
    return mmap(at, n, protection, flags, fd, offset);
}

int munmap(void *at, size_t n) {
    find_real();
    for (int i = 0; i < BUFFERS; i++)
        if (at && at == memory[i]) return 0;
    return real_munmap(at, n);
}

int stat(const char *path, struct stat *s) {
    find_real();
    if (!is_camera(path)) return real_stat(path, s);
    int feeder = connect_feeder();
    if (feeder < 0) return fail(ENOENT);
    real_close(feeder);
    memset(s, 0, sizeof *s);
    s->st_mode = S_IFCHR | 0660;
    s->st_rdev = makedev(81, 0);
    return 0;
}

int stat64(const char *path, struct stat64 *s) { return stat(path, (struct stat *)s); }
