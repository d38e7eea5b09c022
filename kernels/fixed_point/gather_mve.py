"""What output pixels read, brought together in scratch for products sixteen elements at a time.

Either each tap's channels are filled up to vectors, and the vectors of a tile's pixels alternate, or each pixel's
elements follow each other without gaps. What lies outside the image is its zero; what fills up meets zero weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as script

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather import rolled
from edgeprune.kernels.fixed_point.product_mve_assembly import BLOCK, FARTHEST, inlined
from edgeprune.kernels.script import Memory, either, let

_COPY, _FILL, _ROWS = "edge_vector_copy", "edge_vector_fill", "edge_vector_rows"
_NEAR = 127
_USED = ("r2", "r3", "r4", "lr", "q0")
_UNROLLED = 8
_FILLED, _PIXEL, _WINDOW = 20, 24.0, 60.0


@dataclass(frozen=True)
class VectorGather:
    """How a tile of `pixels` output pixels of `problem` is gathered for one group."""

    problem: Conv2d
    pixels: int

    @property
    def direct(self) -> bool:
        """Whether pixels are read where they are: whole vectors, the pixels of a tile beside each other."""
        problem = self.problem
        same = problem.kernel == problem.strides == (1, 1) and not any(problem.halo()) and problem.groups == 1
        reach = (self.pixels - 1) * problem.x.pixel_stride
        aligned = problem.x.offset % 4 == problem.x.pixel_stride % 4 == 0
        return same and aligned and problem.group_inputs % BLOCK == 0 and reach <= FARTHEST

    @property
    def alternating(self) -> bool:
        """Whether the pixels' vectors alternate."""
        whole = self.problem.group_inputs % BLOCK == 0
        return whole or (self.pixels - 1) * self._without_gaps > FARTHEST

    @property
    def blocks(self) -> int:
        """Vectors along the reduction."""
        return self.problem.taps * self._tap_blocks if self.alternating else self._without_gaps // BLOCK

    @property
    def block_step(self) -> int:
        """Bytes from one vector of a pixel to the next."""
        return BLOCK if self.direct or not self.alternating else BLOCK * self.pixels

    @property
    def pixel_step(self) -> int:
        """Bytes from a pixel's vector to the next pixel's."""
        if self.direct:
            return self.problem.x.pixel_stride
        return BLOCK if self.alternating else self._without_gaps

    @property
    def scratch_bytes(self) -> int:
        """Scratch of a tile."""
        return 0 if self.direct else self.blocks * BLOCK * self.pixels

    @property
    def _tap_blocks(self) -> int:
        return -(-self.problem.group_inputs // BLOCK)

    @property
    def _without_gaps(self) -> int:
        return -(-self.problem.taps * self.problem.group_inputs // BLOCK) * BLOCK

    @property
    def _joined(self) -> bool:
        """Whether the taps of a row are one run of memory."""
        problem = self.problem
        dense = problem.x.pixel_stride == problem.x.channels
        whole = problem.group_inputs % BLOCK == 0 or not self.alternating
        return problem.groups == 1 and problem.dilations[1] == 1 and dense and whole

    @property
    def _run(self) -> int:
        """Elements of a run."""
        return self.problem.group_inputs * (self.problem.kernel[1] if self._joined else 1)

    @property
    def _runs(self) -> tuple[int, int]:
        return self.problem.kernel[0], 1 if self._joined else self.problem.kernel[1]

    @property
    def instructions(self) -> float:
        """Instructions that a pixel is expected to take."""
        if self.direct:
            return 0.0
        problem = self.problem
        beside, below = (problem.kernel[axis] // problem.strides[axis] for axis in (1, 0))
        border = 1.0
        if any(problem.halo()):
            border = max(0.0, 1 - beside / problem.y.width) * max(0.0, 1 - below / problem.y.height)
        inside = self._runs[0] * self._runs[1] * (2 * -(-self._run // BLOCK) + 3)
        return _PIXEL + border * inside + (1 - border) * problem.taps * (_FILLED + 2 * self._tap_blocks)

    @property
    def shared_instructions(self) -> float:
        """Instructions that a pixel is expected to take where code is shared."""
        return 0.0 if self.direct else self.instructions + _WINDOW + self.problem.taps * self._tap_blocks

    def functions(self) -> list[str]:
        """LLVM's text of the functions that `gather` calls."""
        if self.direct:
            return []
        found = [inlined(_ROWS, ["ptr", "ptr"], self._rows(), _USED)]
        if any(self.problem.halo()):
            found += [inlined(_COPY, ["ptr", "ptr"], self._copy(True), _USED),
                      inlined(_FILL, ["ptr", "i32"], self._copy(False), _USED)]  # fmt: skip
        return found

    def _vectors(self, run: int, load: bool) -> list[str]:
        """One run to its place; r0 and r1 move on, except that r1 stands at the run's last vector's end."""
        step, full = self.block_step, run // BLOCK
        lines = []
        each = [*(["vldrb.u8 q0, [r1], #16"] if load else []), *_stored(step)]
        if full > _UNROLLED:
            lines += [f"mov r3, #{full}", "dls lr, r3", "1:", *each, "le lr, 1b"]
        else:
            lines += each * full
        if run % BLOCK:
            rest = run % BLOCK
            if self.alternating:
                lines += ["vpst", f"vldrbt.u8 q0, [r1], #{rest}"] if load else []
                lines += _stored(step)
            else:
                masked = [f"vldrbt.u8 q0, [r1], #{rest}"] if load else []
                lines += ["vpstt" if load else "vpst", *masked, f"vstrbt.8 q0, [r0], #{rest}"]
        return lines

    def _copy(self, load: bool) -> list[str]:
        """A tap's channels."""
        count = self.problem.group_inputs
        mask = [f"mov r3, #{count % BLOCK}", "vctp.8 r3"] if count % BLOCK else []
        value = [] if load else ["vdup.8 q0, r1"]
        return [*mask, *value, *self._vectors(count, load)]

    def _rows(self) -> list[str]:
        """All runs of a pixel whose taps are all inside."""
        problem, (below, beside) = self.problem, self._runs
        mask = [f"mov r3, #{self._run % BLOCK}", "vctp.8 r3"] if self._run % BLOCK else []
        inner = self._vectors(self._run, True)
        if beside > 1:
            step = problem.dilations[1] * problem.x.pixel_stride - self._run
            inner = [f"mov r4, #{beside}", "3:", *inner, *_moved("r1", step), "subs r4, #1", "bne 3b"]
        across = beside * problem.dilations[1] * problem.x.pixel_stride if beside > 1 else self._run
        down = _moved("r1", problem.dilations[0] * problem.x.row_stride - across)
        lines = inner
        if below > 1:
            lines = [f"mov r2, #{below}", "2:", *inner, *down, "subs r2, #1", "bne 2b"]
        return [*mask, *lines]

    def gather(self, x: Memory, scratch: Memory, start: Any, group: Any) -> None:
        """Emit the gathering of the tile that begins at output pixel `start`, for one group."""
        problem = self.problem
        with rolled(self.pixels) as number:
            pixel = let(start + number)
            row, column = let(tirx.floordiv(pixel, problem.y.width)), let(tirx.floormod(pixel, problem.y.width))
            image, down = (0, row)
            if problem.y.batch > 1:
                image, down = tirx.floordiv(row, problem.y.height), tirx.floormod(row, problem.y.height)
            top = let(down * problem.strides[0] - problem.pads[0])
            left = let(column * problem.strides[1] - problem.pads[1])
            origin = let(problem.x.offset + image * problem.x.batch_stride + group * problem.group_inputs)
            target = let(number * self.pixel_step)
            self._pixel(x, scratch, (top, left), origin, target)

    def _pixel(self, x: Memory, scratch: Memory, first: tuple[Any, Any], origin: Any, target: Any) -> None:
        problem, (top, left) = self.problem, first
        sizes = (problem.x.height, problem.x.width)

        def place(row: Any, column: Any) -> Any:
            return _address(x, origin + row * problem.x.row_stride + column * problem.x.pixel_stride)

        def inner() -> None:
            _call(_ROWS, _address(scratch, target), place(top, left))

        def tapwise() -> None:
            step = self._tap_blocks * self.block_step if self.alternating else problem.group_inputs
            with rolled(problem.kernel[0]) as down, rolled(problem.kernel[1]) as right:
                row, column = let(top + down * problem.dilations[0]), let(left + right * problem.dilations[1])
                to = let(target + (down * problem.kernel[1] + right) * step)
                inside = tirx.all(row >= 0, row < sizes[0], column >= 0, column < sizes[1])
                either(
                    inside,
                    lambda: _call(_COPY, _address(scratch, to), place(row, column)),
                    lambda: _call(_FILL, _address(scratch, to), problem.x.format.zero),
                )

        if not any(problem.halo()):
            inner()
            return
        ends = [sizes[axis] - (problem.kernel[axis] - 1) * problem.dilations[axis] for axis in (0, 1)]
        either(tirx.all(top >= 0, top < ends[0], left >= 0, left < ends[1]), inner, tapwise)


def _stored(step: int) -> list[str]:
    if step <= _NEAR:
        return [f"vstrb.8 q0, [r0], #{step}"]
    return ["vstrb.8 q0, [r0]", f"add.w r0, r0, #{step}"]


def _moved(register: str, step: int) -> list[str]:
    """`register` plus `step`, by way of r3 where it is far."""
    if step == 0:
        return []
    if abs(step) < 4096:
        return [f"{'addw' if step > 0 else 'subw'} {register}, {register}, #{abs(step)}"]
    low, high = step & 0xFFFF, step >> 16 & 0xFFFF
    return [f"movw r3, #{low}", *([f"movt r3, #{high}"] if high else []), f"add {register}, r3"]


def _call(name: str, *arguments: Any) -> None:
    script.evaluate(tirx.call_extern("int32", name, *arguments))


def _address(memory: Memory, index: Any) -> Any:
    return tirx.address_of(memory.buffer[index])
