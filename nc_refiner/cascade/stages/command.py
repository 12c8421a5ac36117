"""`base: {type: command}`: any program that writes a video."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ...video import read_clip
from .base import Stage, StageOptions, StageRequest, StageResult
from .registry import register_stage

__all__ = ["CommandOptions", "CommandStage"]

PLACEHOLDERS = ("prompt", "negative_prompt", "seed", "output", "folder")
TOLD = 600


class CommandOptions(StageOptions):
    """The program.

    Attributes:
        command: program and arguments, as a list; no shell reads them. `{prompt}`, `{negative_prompt}`, `{seed}`,
            `{output}` (the video it must write, ending in .mp4) and `{folder}` (an empty folder it may use) are
            filled in; `{{` and `}}` are braces.
        timeout: seconds after which it is stopped.
        reads: files and folders the program reads; when one of them changes, `--resume` runs it again. Files that
            `command` names count without being listed, folders do not: a program's working folder is no input.
    """

    type: Literal["command"] = "command"
    command: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)]
    timeout: float = Field(3600.0, gt=0, le=7 * 24 * 3600)
    reads: list[Annotated[str, Field(min_length=1)]] = Field([], max_length=1000)

    @field_validator("command")
    @classmethod
    def _known_placeholders(cls, command: list[str]) -> list[str]:
        for argument in command:
            try:
                fields = {(name, spec, how) for _, name, spec, how in Formatter().parse(argument) if name is not None}
            except ValueError as error:
                raise ValueError(f"{argument!r} cannot be filled in ({error}); {{{{ and }}}} are braces") from None
            for name, spec, how in fields:
                if name not in PLACEHOLDERS or spec or how:
                    allowed = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
                    raise ValueError(
                        f"{argument!r} cannot be filled in ({name!r} is not known); allowed: {allowed}; "
                        "{{ and }} are braces"
                    )
        if not any("{output}" in argument or "{folder}" in argument for argument in command):
            raise ValueError("no argument names {output}, the file the program must write")
        return command


@register_stage("base", "command")
class CommandStage(Stage):
    """Runs the program and reads the video it wrote. What it prints is told only if it fails."""

    Options = CommandOptions

    def check(self) -> None:
        """FileNotFoundError where the program is not on this machine."""
        program = self.options.command[0]
        if "{" not in program and shutil.which(program) is None:
            raise FileNotFoundError(f"base.command: the program {program!r} is not found; give its path")
        for name in self.options.reads:
            if not Path(name).exists():
                raise FileNotFoundError(f"base.reads: {name} does not exist; give files or folders the program reads")

    def reads(self) -> Any:
        """The files among the arguments, and what the options declare."""
        return [*(argument for argument in self.options.command if not Path(argument).is_dir()), *self.options.reads]

    def run(self, request: StageRequest) -> StageResult:
        """Run it.

        Raises:
            RuntimeError: it failed, took too long, or wrote no video. VideoError: what it wrote cannot be read.
        """
        output = request.folder / "output.mp4"
        filled = {
            "prompt": request.prompt or "",
            "negative_prompt": request.negative_prompt or "",
            "seed": request.seed,
            "output": output,
            "folder": request.folder,
        }
        command = [argument.format(**filled) for argument in self.options.command]
        start = time.perf_counter()
        _run(command, self.options.timeout, request.folder / "output.log")
        if not output.is_file():
            raise RuntimeError(f"{command[0]} ended well but wrote no {{output}} file")
        clip = read_clip(output, exact_colour=True)
        request.on_step("command")
        receipt = {"command": self.options.command, "seconds": {"command": round(time.perf_counter() - start, 4)}}
        return StageResult(clip.with_frames(clip.frames, f"made by {Path(command[0]).name}"), receipt)


def _run(command: list[str], timeout: float, log: Path) -> None:
    with log.open("w+b") as printed:
        # A group of its own, so that a program's children are stopped with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{command[0]} was stopped after {timeout:g} seconds; raise base.timeout") from None
        finally:
            if process.poll() is None:
                _stop(process)
        if code != 0:
            # Only the end is told, and a program may have printed more than fits into memory.
            printed.seek(max(0, printed.seek(0, os.SEEK_END) - 16 * TOLD))
            words = " ".join(printed.read().decode("utf-8", "replace").split())
            raise RuntimeError(f"{command[0]} failed with code {code}: {words[-TOLD:] or 'it printed nothing'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
