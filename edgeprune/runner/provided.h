/* The functions of libc that a compiled model may call. */
#ifndef EDGE_PROVIDED_H
#define EDGE_PROVIDED_H

/* The address of the function `name`, or NULL. */
void *edge_provided(const char *name);

#endif
