// A layer of Vulkan that writes down what is copied between the host and the device: `count` compiles it, and has the
// loader put it in front of the driver. A line for each copy, in the file that COPIES names: where to, and how many bytes.
//
// wgpu copies to the device out of buffers that are good for nothing else, and to the host into such buffers.
//
// What is declared here stands in vulkan_core.h and vk_layer.h, of which it takes so little that neither has to be there.

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRANSFER_SRC = 1, TRANSFER_DST = 2, INSTANCE_LINK = 47, DEVICE_LINK = 48 };

typedef void *Handle; // of an instance, a device, a list of commands
typedef void (*Function)(void);
typedef Function (*Lookup)(Handle, const char *);
typedef int (*Create)(Handle, const void *, const void *, void *);
typedef struct { uint64_t from, to, size; } Region;
typedef void (*Copy)(Handle, uint64_t, uint64_t, uint32_t, const Region *);

typedef struct { int type; const void *next; uint32_t flags; uint64_t size; uint32_t usage; } BufferInfo;
typedef struct Link { struct Link *next; Lookup instance, device; } Link;
typedef struct Chain { int type; const struct Chain *next; int function; Link *link; } Chain;
typedef struct { int type; const struct Chain *next; } Info;
typedef struct { int type; void *next; uint32_t version; Lookup instance, device, physical_device; } Negotiation;

static Handle instance;
static Lookup next_of_instance, next_of_device;
static Create create_buffer;
static Copy copy_buffer;

// Usage of buffers by their handles: a handle that is used again has the usage of the last buffer.
enum { SLOTS = 1 << 20 };
static struct { uint64_t buffer; uint32_t usage; } slots[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *file;

static uint32_t *usage_of(uint64_t buffer) {
    uint64_t at = buffer * 0x9E3779B97F4A7C15u >> 44;
    while (slots[at].buffer && slots[at].buffer != buffer) at = (at + 1) % SLOTS;
    slots[at].buffer = buffer;
    return &slots[at].usage;
}

static int wan_create_buffer(Handle device, const BufferInfo *info, const void *allocator, uint64_t *buffer) {
    int result = create_buffer(device, info, allocator, buffer);
    pthread_mutex_lock(&lock);
    if (!result) *usage_of(*buffer) = info->usage;
    pthread_mutex_unlock(&lock);
    return result;
}

static void wan_copy_buffer(Handle commands, uint64_t from, uint64_t to, uint32_t count, const Region *regions) {
    pthread_mutex_lock(&lock);
    int to_device = *usage_of(from) == TRANSFER_SRC, to_host = *usage_of(to) == TRANSFER_DST;
    for (uint32_t i = 0; (to_device || to_host) && i < count; i++)
        fprintf(file, "%s %llu\n", to_host ? "host" : "device", (unsigned long long)regions[i].size);
    fflush(file); // nobody closes it
    pthread_mutex_unlock(&lock);
    copy_buffer(commands, from, to, count, regions);
}

// The link of this layer in the chain, which is the next one's after it.
static Link *advance(const Info *info, int type) {
    Chain *chain = (Chain *)info->next;
    while (chain->type != type || chain->function != 0) chain = (Chain *)chain->next;
    Link *link = chain->link;
    chain->link = link->next;
    return link;
}

static int wan_create_instance(const Info *info, const void *allocator, Handle *created) {
    next_of_instance = advance(info, INSTANCE_LINK)->instance;
    int (*create)(const Info *, const void *, Handle *) = (void *)next_of_instance(NULL, "vkCreateInstance");
    int result = create(info, allocator, created);
    instance = *created;
    return result;
}

static int wan_create_device(Handle physical, const Info *info, const void *allocator, Handle *device) {
    Link *link = advance(info, DEVICE_LINK);
    next_of_device = link->device;
    Create create = (Create)link->instance(instance, "vkCreateDevice");
    int result = create(physical, info, allocator, device);
    if (result) return result;
    create_buffer = (Create)next_of_device(*device, "vkCreateBuffer");
    copy_buffer = (Copy)next_of_device(*device, "vkCmdCopyBuffer");
    return result;
}

static Function wan_of_instance(Handle handle, const char *name);
static Function wan_of_device(Handle device, const char *name);

static Function own(const char *name) {
    static const struct { const char *name; void *function; } functions[] = {
        {"vkGetInstanceProcAddr", wan_of_instance}, {"vkGetDeviceProcAddr", wan_of_device},
        {"vkCreateInstance", wan_create_instance},  {"vkCreateDevice", wan_create_device},
        {"vkCreateBuffer", wan_create_buffer},      {"vkCmdCopyBuffer", wan_copy_buffer},
    };
    for (unsigned i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(name, functions[i].name)) return (Function)functions[i].function;
    return NULL;
}

static Function wan_of_instance(Handle handle, const char *name) {
    Function found = own(name);
    return found ? found : next_of_instance(handle, name);
}

static Function wan_of_device(Handle device, const char *name) {
    Function found = own(name);
    return found ? found : next_of_device(device, name);
}

int vkNegotiateLoaderLayerInterfaceVersion(Negotiation *negotiation) {
    file = fopen(getenv("COPIES"), "a");
    negotiation->version = 2;
    negotiation->instance = wan_of_instance;
    negotiation->device = wan_of_device;
    negotiation->physical_device = NULL;
    return file ? 0 : -3; // VK_ERROR_INITIALIZATION_FAILED
}
