/* A QEMU TCG plugin that counts the instructions a guest program executes.
 *
 *     gcc -shared -fPIC -O2 -o insn.so insn.c
 *     qemu-arm -plugin ./insn.so,out=FILE program ...      writes the count to FILE at its end
 *
 * Debian's qemu-user loads plugins but packages no qemu-plugin.h: what is used of it is declared here
 * (QEMU 7.2, docs/devel/tcg-plugins.rst). A newer QEMU may ask for a later interface: -DAPI=2 and so on.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifndef API
#define API 1
#endif
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t id_t_;
struct qemu_plugin_tb;
enum { NO_REGISTERS = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(id_t_, void (*)(id_t_, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int,
                                          void *);
void qemu_plugin_register_atexit_cb(id_t_, void (*)(id_t_, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = API;
static uint64_t executed; /* one thread: MicroPython has no other */
static char out[4096];

static void executes(unsigned vcpu, void *count) { executed += (uintptr_t)count; }

static void translated(id_t_ id, struct qemu_plugin_tb *block) {
    void *count = (void *)(uintptr_t)qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, executes, NO_REGISTERS, count);
}

static void ended(id_t_ id, void *unused) {
    FILE *file = fopen(out, "w");
    if (file) fprintf(file, "%" PRIu64 "\n", executed), fclose(file);
}

EXPORT int qemu_plugin_install(id_t_ id, const void *info, int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4)) snprintf(out, sizeof out, "%s", argv[i] + 4);
    if (!*out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
