/*
 * A BMC behind /dev/ipmi0, for LD_PRELOAD: ioctl() on IPMI requests is answered here, by the kernel's own header.
 * So a request that the kernel would not understand is not understood here either.
 *
 * The folder in $BMC_FOLDER holds "answer", the raw bytes of the reply (completion code first), read at each
 * question. Each understood question appends a line to "questions": network function, command and data in hex.
 * With $BMC_LATE=1 an answer to an older question comes before the right one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/ipmi.h>

static long pending_msgid;
static int stale_first;

static FILE *open_in_folder(const char *name, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("BMC_FOLDER"), name);
    return fopen(path, mode);
}

static int take_question(const struct ipmi_req *request)
{
    const struct ipmi_system_interface_addr *address = (const void *)request->addr;
    if (request->addr_len < sizeof *address || address->addr_type != IPMI_SYSTEM_INTERFACE_ADDR_TYPE
        || address->channel != IPMI_BMC_CHANNEL) {
        errno = EINVAL;
        return -1;
    }
    FILE *log = open_in_folder("questions", "a");
    fprintf(log, "%02x %02x", request->msg.netfn, request->msg.cmd);
    for (int i = 0; i < request->msg.data_len; i++)
        fprintf(log, " %02x", request->msg.data[i]);
    fprintf(log, "\n");
    fclose(log);
    pending_msgid = request->msgid;
    stale_first = getenv("BMC_LATE") != NULL;
    return 0;
}

static int give_answer(struct ipmi_recv *received)
{
    FILE *file = open_in_folder("answer", "r");
    if (file == NULL) {
        errno = EAGAIN;
        return -1;
    }
    received->recv_type = IPMI_RESPONSE_RECV_TYPE;
    received->msgid = stale_first ? pending_msgid - 1 : pending_msgid;
    received->msg.data_len = fread(received->msg.data, 1, received->msg.data_len, file);
    if (stale_first)
        memset(received->msg.data, 0xff, received->msg.data_len);
    stale_first = 0;
    fclose(file);
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (request == IPMICTL_SEND_COMMAND)
        return take_question(argument);
    if (request == IPMICTL_RECEIVE_MSG_TRUNC)
        return give_answer(argument);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}
