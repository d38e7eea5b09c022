/* Loads a compiled model without a dynamic linker, so that one static program runs it on any Linux or Android. */
#ifndef EDGE_LOADER_H
#define EDGE_LOADER_H

/* Maps the shared library at `path`; NULL and a message in edge_loader_error() where that cannot be done. */
struct edge_library *edge_load(const char *path);
/* The address of an exported function, or NULL. */
void *edge_find(const struct edge_library *library, const char *name);
/* What went wrong in the last edge_load. */
const char *edge_loader_error(void);

#endif
