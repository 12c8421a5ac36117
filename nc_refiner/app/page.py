"""The page: what a person chooses on one side, what came out on the other."""

from __future__ import annotations

import html
import queue
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..adapters.embedded.adapter import DEFAULT_CUTOFF, DEFAULT_STEPS, DEFAULT_STRENGTH
from ..config.refiner import Backbone, RefinerDescription
from ..evaluation.extras import needs
from ..pages.lines import line_plot
from .folders import RunFolders
from .job import Cancelled, Job, Outcome, Wanted
from .recipes import as_python, as_yaml

__all__ = ["build", "launch"]

IDLE = "Choose a clip, or leave it empty for the bundled one. Then press Refine."
STOPPED = "Stopped. Nothing was kept."


@dataclass(frozen=True)
class _Update:
    """One message from the run to the page."""

    share: float = 0.0
    text: str = ""
    outcome: Outcome | None = None
    error: str = ""


def build(job: Job, refiners: Mapping[str, Backbone] | None = None) -> Any:
    """The page as a Gradio app.

    Args:
        job: what runs behind it; it may serve several pages.
        refiners: name shown → backbone; default: the embedded refiner. People choose among these alone.

    Raises:
        ImportError: Gradio or Jinja2 is not installed.
    """
    with needs("gradio", "gradio", "app"), needs("jinja2", "jinja2", "app"):
        import gradio as gr
        import jinja2  # noqa: F401
    choices = dict(refiners or {"embedded": Backbone()})
    limits = job.limits

    def wanted(source: Any, name: str, prompt: str, n: float, cutoff: float, own_cutoff: bool, strength: float,
               steps: float, seed: float, frames: float, height: float) -> Wanted:  # fmt: skip
        if any(value is None for value in (n, cutoff, strength, steps, seed, frames, height)):
            raise ValueError("A number is missing; fill in seed, frames and height.")
        description = RefinerDescription.model_validate(
            {
                "backbone": choices[name],
                "iterations": int(n),
                "cutoff": None if own_cutoff else float(cutoff),
                "strength": float(strength),
                "num_inference_steps": int(steps),
            }
        )
        path = None if not source else Path(source)
        return Wanted(path, description, int(seed), int(frames), int(height) or None, (prompt or "").strip())

    # Gradio ends its own side of a run only: the run itself is told by the page that it belongs to.
    running: dict[str, threading.Event] = {}
    folders = RunFolders()

    def refine(token: str, *given: Any) -> Iterator[list[Any]]:
        quiet = [gr.skip()] * 8
        yield [_status("starting"), *quiet]
        try:
            asked = wanted(*given)
        except (ValueError, OverflowError) as error:
            yield [_status(error=_words(error)), *quiet]
            return
        running[token] = cancelled = threading.Event()
        for update in _updates(job, asked, folders.new(), cancelled):
            if update.error:
                yield [_status(error=update.error), *quiet]
            elif update.outcome is None:
                yield [_status(update.text, update.share), *quiet]
            else:
                yield [_status("Done."), *_shown(gr, asked, update.outcome)]

    def halt(token: str) -> str:
        if token in running:
            running.pop(token).set()
        return _status(STOPPED)

    css = (files(__package__ or "") / "templates" / "app.css").read_text(encoding="utf-8")
    with gr.Blocks(title="nc-refiner", analytics_enabled=False, fill_width=True, delete_cache=(3600, 6 * 3600)) as page:
        gr.Markdown("# nc-refiner\nRefine a clip and keep its content. Both results come from the same seed.")
        token = gr.State(lambda: secrets.token_hex(8))
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                source = gr.File(
                    label=f"Video or picture, up to {limits.megabytes} MB (empty: the bundled clip)",
                    file_types=["video", "image"],
                    elem_id="source",
                )
                name = gr.Dropdown(
                    list(choices),
                    value=next(iter(choices)),
                    label="Refiner",
                    visible=len(choices) > 1,
                    elem_id="refiner",
                )
                takes_prompt = any(backbone.adapter != "embedded" for backbone in choices.values())
                prompt = gr.Textbox(label="Prompt", visible=takes_prompt, elem_id="prompt")
                n = gr.Slider(
                    0, 10, 3, step=1, label="N", info="Corrections of the noise; 0 is plain SDEdit.", elem_id="n"
                )
                strength = gr.Slider(
                    0.05,
                    1,
                    DEFAULT_STRENGTH,
                    step=0.05,
                    label="Strength",
                    info="How much the refiner may change.",
                    elem_id="strength",
                )
                own = gr.Checkbox(True, label="The refiner's own cutoff", elem_id="own-cutoff")
                cutoff = gr.Slider(
                    0,
                    1,
                    DEFAULT_CUTOFF,
                    step=0.05,
                    label="Cutoff",
                    info="Frequencies that must stay; 1 is all.",
                    elem_id="cutoff",
                )
                with gr.Row():
                    start = gr.Button("Refine", variant="primary", elem_id="start")
                    stop = gr.Button("Stop", variant="stop", elem_id="stop")
                with gr.Accordion("More", open=False):
                    steps = gr.Slider(
                        4, 100, DEFAULT_STEPS, step=1, label="Steps of the whole schedule", elem_id="steps"
                    )
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
                    frames = gr.Slider(
                        1, limits.frames, min(16, limits.frames), step=1, label="Frames", elem_id="frames"
                    )
                    height = gr.Number(
                        160, label="Height in pixels (0: the clip's own)", precision=0, minimum=0, elem_id="height"
                    )
            with gr.Column(scale=3, min_width=300):
                status = gr.HTML(_status(IDLE), elem_id="status")
                result = gr.HTML(elem_id="result")
                loss = gr.HTML(elem_id="loss")
                with gr.Row():
                    clip = gr.DownloadButton("Refined clip", interactive=False, elem_id="download-clip")
                    sdedit = gr.DownloadButton("SDEdit's clip", interactive=False, elem_id="download-sdedit")
                    receipt = gr.DownloadButton("Receipt", interactive=False, elem_id="download-receipt")
                with gr.Accordion("The same in Python", open=False):
                    python = gr.Code(language="python", interactive=False, elem_id="python")
                with gr.Accordion("The same in YAML", open=False):
                    yaml = gr.Code(language="yaml", interactive=False, elem_id="yaml")
                notes = gr.Markdown(elem_id="notes")
        inputs = [token, source, name, prompt, n, cutoff, own, strength, steps, seed, frames, height]
        outputs = [status, result, loss, clip, sdedit, receipt, python, yaml, notes]
        refining = start.click(refine, inputs, outputs, show_progress="hidden", concurrency_limit=1)
        stop.click(halt, token, status, cancels=[refining], show_progress="hidden", queue=False)
    # What Gradio takes when it launches is kept with the page it belongs to.
    page.nc_refiner_look = {"css": css, "theme": _theme(gr)}
    return page


def _theme(gr: Any) -> Any:
    """System fonts: nothing is loaded from elsewhere."""
    return gr.themes.Default(
        primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


def launch(page: Any, host: str, port: int, megabytes: int, password: Sequence[str] = (), show: bool = False) -> None:
    """Serve the page until the process is asked to end.

    Args:
        page: from `build`.
        host, port: where to listen.
        megabytes: the largest upload that is taken in.
        password: user and password that are asked for; empty: none.
        show: open it in this machine's browser.
    """
    page.queue(default_concurrency_limit=1, max_size=16)
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=show,
        share=False,
        auth=tuple(password) or None,
        max_file_size=f"{megabytes}mb",
        footer_links=[],
        quiet=True,
        **page.nc_refiner_look,
    )


def _updates(job: Job, asked: Wanted, folder: Path, cancelled: threading.Event) -> Iterator[_Update]:
    """The run in a thread of its own; leaving this generator, or `cancelled`, stops it."""
    messages: queue.Queue[_Update] = queue.Queue()

    def work() -> None:
        try:
            outcome = job.run(asked, folder, lambda share, text: messages.put(_Update(share, text)), cancelled)
            messages.put(_Update(1.0, outcome=outcome))
        except Cancelled:
            messages.put(_Update(error=STOPPED))
        except Exception as error:  # a person at a page gets words, never a traceback
            messages.put(_Update(error=_words(error)))

    thread = threading.Thread(target=work, name="nc-refiner app", daemon=True)
    thread.start()
    try:
        while not cancelled.is_set():
            try:
                # Never blocked for long: what a person stopped must not hold the page's only place.
                update = messages.get(timeout=0.1)
            except queue.Empty:
                continue
            while update.outcome is None and not update.error and not messages.empty():
                update = messages.get()
            yield update
            if update.outcome is not None or update.error:
                return
        yield _Update(error=STOPPED)
    finally:
        cancelled.set()


def _words(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, (ValueError, ImportError, OSError)) else f"The run failed: {text}"


def _status(text: str = "", share: float | None = None, error: str = "") -> str:
    if error:
        return f'<p class="nc-error" role="alert">{html.escape(error)}</p>'
    words = html.escape(text)
    if share is None:
        return f'<p role="status">{words}</p>'
    percent = round(100 * share)
    bar = f'<progress max="100" value="{percent}" aria-label="done"></progress>'
    return f'<p role="status">{bar} {percent} % {words}</p>'


def _shown(gr: Any, asked: Wanted, outcome: Outcome) -> list[Any]:
    # A document of its own: its script and its policy stay inside, and it may do nothing but show.
    frame = (
        f'<iframe title="Input, SDEdit and calibrated, compared" class="nc-report" sandbox="allow-scripts" '
        f'srcdoc="{html.escape(outcome.report, quote=True)}"></iframe>'
    )
    return [
        frame,
        _loss(outcome.content_loss),
        *(
            gr.DownloadButton(value=str(path), interactive=True)
            for path in (outcome.clip, outcome.sdedit, outcome.receipt)
        ),
        as_python(asked),
        as_yaml(asked),
        "\n".join(f"- {note}" for note in outcome.notes),
    ]


def _loss(losses: Sequence[float]) -> str:
    if not losses:
        return ""
    places = [(float(index), value) for index, value in enumerate(losses)]
    says = "content loss at each prediction: " + ", ".join(f"{value:.3f}" for value in losses)
    drawn = line_plot({"content loss": places}, (0, len(losses) - 1), "correction", says, zero=True)
    words = "Content loss at each correction: it should fall."
    return f'<figure class="nc-loss"><figcaption>{words}</figcaption>{drawn}</figure>'
