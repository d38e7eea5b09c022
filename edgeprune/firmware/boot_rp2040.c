/* The RP2040's second stage: its ROM copies these 256 bytes into RAM and runs them once their checksum is right.
   They have the flash read by the one command that every serial flash knows (03h), then start the program behind them.
   RP2040 datasheet, sections 2.8.1.3 and 4.10. */
__asm__(".section .edge_boot, \"ax\", %progbits\n"
        ".syntax unified\n"
        ".thumb\n"
        ".balign 4\n"
        "    ldr r3, 1f\n"
        "    movs r0, #0\n"
        "    str r0, [r3, #0x08]\n" /* SSIENR: off */
        "    movs r1, #4\n"
        "    str r1, [r3, #0x14]\n" /* BAUDR */
        "    ldr r1, 2f\n"
        "    str r1, [r3, #0x00]\n" /* CTRLR0: 32 bits a frame, a command then data */
        "    str r0, [r3, #0x04]\n" /* CTRLR1: one frame */
        "    ldr r1, 3f\n"
        "    movs r2, #0xf4\n"
        "    str r1, [r3, r2]\n" /* SPI_CTRLR0: command 03h, 8 bits, address of 24 */
        "    movs r1, #1\n"
        "    str r1, [r3, #0x08]\n" /* SSIENR: on */
        "    ldr r0, 4f\n"
        "    ldr r1, [r0]\n"
        "    msr msp, r1\n"
        "    ldr r1, [r0, #4]\n"
        "    bx r1\n"
        ".balign 4\n"
        "1:  .word 0x18000000\n"
        "2:  .word 31 << 16 | 3 << 8\n"
        "3:  .word 0x03 << 24 | 2 << 8 | 6 << 2\n"
        "4:  .word edge_vectors\n"
        ".org 252\n"
        "    .word 0\n"
        ".text\n");
