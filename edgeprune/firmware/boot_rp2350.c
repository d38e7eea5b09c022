/* The block by which the RP2350's ROM knows a program for its Arm cores (RP2350 datasheet, section 5.9.5): it stands in
   the first 4 KB of flash. */
#include <stdint.h>

__attribute__((section(".edge_block"), used)) static const uint32_t image_definition[] = {
    0xFFFFDED3, 0x10210142, 0x000001FF, 0x00000000, 0xAB123579,
};
