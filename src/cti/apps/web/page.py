"""The page itself: its controls, and which call of `session.py` each of them makes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from cti.apps.web.cards import Card, Desk
from cti.apps.web.guards import Limits
from cti.apps.web.painting import brush_colours, to_editor
from cti.apps.web.review import Listing, Order, ReviewList
from cti.apps.web.run_review import RunReview
from cti.apps.web.session import Session, add_photos, judge, make_downloads, nothing_here, open_reviewed
from cti.data.images import SUFFIXES
from cti.data.review import VERDICTS, Verdict
from cti.predict.prediction import Threshold

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]  # component -> what becomes of it
MANY_CLASSES = 30  # from here on tags are a searchable list instead of boxes
OPACITY = 0.5
MARKS: dict[Verdict, str] = {"open": "○", "accepted": "✓", "rejected": "✗"}
# Calls that run the network may wait for each other without taking the threads that answer the sliders.
NETWORK = {"concurrency_id": "network", "concurrency_limit": 8, "api_visibility": "private"}
# Sliders answer at once, and only the last of several moves counts.
LIVE = {
    "concurrency_limit": None,
    "trigger_mode": "always_last",
    "show_progress": "hidden",
    "api_visibility": "private",
}
# Files for taking away are at the photo's own size, which may need much memory: one visitor at a time.
LARGE = {"concurrency_limit": 1, "api_visibility": "private"}
KEPT = 86400  # seconds that pictures and photos are kept at most; all of them go when the page is closed


class Page:
    """The components and what they do.

    Args:
        desk: Makes cards.
        limits: What may be handed in.
        root: Folder for the files that visitors take away.
        review: The list, if there is a folder to review.
        title: Of the page.
    """

    def __init__(self, desk: Desk, limits: Limits, root: Path, review: ReviewList | None, title: str) -> None:
        self.desk, self.limits, self.root, self.review = desk, limits, root, review
        with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, KEPT), fill_width=True) as self.blocks:
            self.session = gr.State(Session(), time_to_live=KEPT, delete_callback=Session.drop_downloads)
            with gr.Row():
                with gr.Column(scale=2, min_width=290):
                    gr.HTML(f"<h1>{escape(title)}</h1>")
                    self._lay_out_sources()
                    self._lay_out_downloads()
                with gr.Column(scale=5, min_width=480):
                    self.status = gr.HTML(elem_id="status")
                    self._lay_out_pictures()
                with gr.Column(scale=2, min_width=290):
                    self._lay_out_controls()
            self._connect()
            if review is not None:
                self._connect_review()
            # A message is read out by screen readers as soon as it appears.
            self.blocks.load(None, js="() => document.getElementById('status').setAttribute('role', 'status')")

    # What there is

    def _lay_out_sources(self) -> None:
        if self.review is None:
            self._lay_out_upload()
            return
        with gr.Tabs():
            with gr.Tab("Review") as self.review_tab:
                self._lay_out_review()
            with gr.Tab("Your photos") as self.photos_tab:
                self._lay_out_upload()

    def _lay_out_upload(self) -> None:
        limits = self.limits
        self.upload = gr.File(
            label=f"Photos, at most {limits.max_upload_mb:g} MB, {limits.max_pixels / 1e6:g} megapixels",
            file_count="multiple",
            file_types=sorted(SUFFIXES),
            height=150,
            elem_id="upload",
        )
        self.photo = gr.Dropdown([], label="Photo", interactive=True, visible=False, elem_id="photo")

    def _lay_out_review(self) -> None:
        shape = {"min_width": 100, "size": "md"}
        with gr.Row():
            self.accept = gr.Button("Accept (A)", variant="primary", elem_id="accept", **shape)
            self.reject = gr.Button("Reject (R)", variant="stop", elem_id="reject", **shape)
        with gr.Row():
            self.previous = gr.Button("Previous (P)", elem_id="previous", **shape)
            self.next = gr.Button("Next (N)", elem_id="next", **shape)
        of_run = isinstance(self.review, RunReview)
        self.nothing = gr.Button("Nothing here (0)", elem_id="nothing", visible=of_run, **shape)
        with gr.Row(visible=of_run):
            classes = [("all", ""), *((name, name) for name in self.desk.classes)]
            self.only = gr.Dropdown(classes, value="", label="Class", elem_id="only", min_width=100)
            self.order = gr.Dropdown(list(get_args(Order)), value="gain", label="Order", elem_id="order", min_width=100)
        self.filter = gr.Radio(["all"], value="all", label="Show", elem_id="filter")
        self.listed = gr.Radio([], label="Photos", elem_id="listed", info="○ open, ✓ accepted, ✗ rejected")

    def _lay_out_controls(self) -> None:
        if len(self.desk.classes) <= MANY_CLASSES:
            self.tags = gr.CheckboxGroup(list(self.desk.classes), label="Tags", interactive=False, elem_id="tags")
        else:
            self.tags = gr.Dropdown(
                list(self.desk.classes), label="Tags", multiselect=True, value=[], interactive=False, elem_id="tags"
            )
        self.predict = gr.Button("Use the predicted tags", elem_id="predict", size="md")
        self.opacity = gr.Slider(0, 1, value=OPACITY, step=0.05, label="Opacity of the mask", elem_id="opacity")
        self.threshold = gr.Slider(
            0, 1, value=0.25, step=0.01, label="Threshold", interactive=False, elem_id="threshold",
            info="How strong a class must be, relative to its strongest place",
        )  # fmt: skip
        self.free = gr.Checkbox(
            label="Compare with the background's own map instead", interactive=False, elem_id="free"
        )
        self.table = gr.HTML(elem_id="scores")

    def _lay_out_downloads(self) -> None:
        self.download = gr.Button("Make files to download", elem_id="download", size="md")
        self.files = gr.File(
            label="Masks as indexed PNG, and COCO JSON",
            file_count="multiple",
            interactive=False,
            visible=False,
            elem_id="files",
        )

    def _lay_out_pictures(self) -> None:
        picture = {"interactive": False, "buttons": ["fullscreen"]}
        if self.review is not None:
            self._lay_out_brush()
        self.layer = gr.Radio([], label="Mask", visible=False, elem_id="layer")
        self.overlay = gr.Image(
            label="Mask over the photo", alt_text="The photo with its mask painted over it",
            format="jpeg", height=540, elem_id="overlay", **picture,
        )  # fmt: skip
        with gr.Row():
            self.mask = gr.Image(
                label="Mask", alt_text="The mask alone", format="png", height=260, elem_id="mask", **picture
            )
            self.cams = gr.Gallery(
                label="Class activation maps", columns=3, height="auto", object_fit="contain", format="jpeg",
                scale=2, elem_id="cams", buttons=["fullscreen"],
            )  # fmt: skip

    def _lay_out_brush(self) -> None:
        colours = brush_colours(self.desk.classes)
        with gr.Accordion("Correct the mask", open=False, elem_id="correct") as self.brush:
            names = " ".join(
                f'<i class="swatch" style="background:{colour}"></i>{escape(name)}' for colour, name in colours
            )
            gr.HTML(f"{names}; erased = background", elem_id="colours")
            self.editor = gr.ImageEditor(
                label="Paint on the mask", type="pil", format="png", sources=[], transforms=[], layers=False,
                buttons=[], height=540, elem_id="editor",
                eraser=gr.Eraser(), brush=gr.Brush(colors=[colour for colour, _ in colours], color_mode="fixed"),
            )  # fmt: skip
            self.use = gr.Button("Use this mask (U)", elem_id="use", size="md")

    # What it does

    def _connect(self) -> None:
        session, opacity = self.session, self.opacity
        masked = [self.status, self.overlay, self.mask, self.table]
        self.shown = [*masked, self.cams, self.tags, self.threshold, self.free, self.layer]
        self.upload.upload(
            self._add, [session, self.upload, opacity], [*self.shown, self.photo, self.upload],
            show_progress="minimal", show_progress_on=self.upload, **NETWORK,
        )  # fmt: skip
        self.photo.input(self._show, [session, self.photo, opacity], self.shown, **LIVE)
        # A control is never set by its own answer: the visitor may have moved it on in the meantime.
        self.layer.input(self._switch, [session, self.layer, opacity], masked, **LIVE)
        self.tags.input(self._tag, [session, self.tags, opacity], [*masked, self.cams, self.layer], **LIVE)
        self.predict.click(self._tag_as_predicted, [session, opacity], self.shown, **LIVE)
        chosen = [session, self.threshold, self.free, opacity]
        self.threshold.input(self._cut, chosen, [*masked, self.layer], **LIVE)
        self.free.input(self._cut_or_free, chosen, [*masked, self.threshold, self.layer], **LIVE)
        opacity.input(self._fade, [session, opacity], [self.overlay], **LIVE)
        self.download.click(self._download, [session], [self.status, self.files], **LARGE)

    def _connect_review(self) -> None:
        session, opacity = self.session, self.opacity
        given = [session, self.listed, self.filter, opacity]
        changed = [*self.shown, self.listed, self.filter, self.brush]
        waiting = {"show_progress": "minimal", "show_progress_on": self.overlay, **NETWORK}
        self.blocks.load(self._start_review, given, changed, **waiting)
        self.listed.input(self._open, given, changed, trigger_mode="always_last", **waiting)
        self.filter.input(self._list, [session, self.listed, self.filter], [self.listed, self.filter], **LIVE)
        for control in (self.only, self.order):
            control.input(
                self._relist, [session, self.listed, self.filter, self.only, self.order], [self.listed, self.filter],
                **LIVE,
            )  # fmt: skip
        self.brush.expand(self._paint_on, [session, opacity], [self.editor], **LIVE)
        self.use.click(self._use, [session, self.editor, opacity], [*self.shown, self.brush], **LIVE)
        for button, call in (
            (self.accept, partial(self._judge, "accepted")),
            (self.reject, partial(self._judge, "rejected")),
            (self.nothing, partial(self._judge, None)),
            (self.next, partial(self._step, 1)),
            (self.previous, partial(self._step, -1)),
        ):
            button.click(call, given, changed, **waiting)
        self.photos_tab.select(self._show, [session, self.photo, opacity], self.shown, **LIVE)
        self.review_tab.select(self._show_reviewed, [session, opacity], self.shown, **LIVE)

    def _add(self, session: Session, files: Sequence[str] | None, opacity: float) -> Iterator[Updates]:
        for message in add_photos(session, self.desk, files or [], self.limits):
            names = list(session.cards)
            chooser = gr.update(choices=names, value=session.chosen, visible=bool(names))
            yield {**self._view(session.card, opacity), self.status: _said(message), self.photo: chooser}
        yield {self.upload: None}

    def _show(self, session: Session, name: str | None, opacity: float) -> Updates:
        return self._view(session.show(name), opacity)

    def _show_reviewed(self, session: Session, opacity: float) -> Updates:
        session.reviewing = True
        return self._view(session.card, opacity)

    def _tag(self, session: Session, tags: list[str] | None, opacity: float) -> Updates:
        threshold = session.card.threshold if session.card else None
        return self._edit(
            session,
            tags or [],
            threshold,
            lambda card: self._masked(card, opacity) | self._maps(card) | self._layer(card),
        )

    def _switch(self, session: Session, layer: str, opacity: float) -> Updates:
        card = session.switch(layer)
        return {self.status: ""} if card is None else self._masked(card, opacity)

    def _tag_as_predicted(self, session: Session, opacity: float) -> Updates:
        threshold = session.card.threshold if session.card else None
        return self._edit(session, None, threshold, lambda card: self._view(card, opacity))

    def _cut(self, session: Session, threshold: float, free: bool, opacity: float) -> Updates:
        tags = session.card.tags if session.card else None
        return self._edit(
            session, tags, "free" if free else threshold, lambda card: self._masked(card, opacity) | self._layer(card)
        )

    def _cut_or_free(self, session: Session, threshold: float, free: bool, opacity: float) -> Updates:
        return {**self._cut(session, threshold, free, opacity), self.threshold: gr.update(interactive=not free)}

    def _fade(self, session: Session, opacity: float) -> Updates:
        return {self.overlay: session.card.overlay(opacity) if session.card else None}

    def _edit(
        self,
        session: Session,
        tags: Sequence[str] | None,
        threshold: Threshold | None,
        show: Callable[[Card], Updates],
    ) -> Updates:
        try:
            card = session.edit(tags, threshold)
        except ValueError as error:  # the page offers nothing of the kind, but anybody can send a request
            return {self.status: _said(str(error))}
        return {self.status: ""} if card is None else show(card)

    def _download(self, session: Session) -> Updates:
        try:
            files = make_downloads(session, self.desk, self.review, self.root)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            return {self.status: _said(str(error)), self.files: gr.update(value=None, visible=False)}
        return {self.status: "", self.files: gr.update(value=[str(file) for file in files], visible=True)}

    # The review list

    def _start_review(self, session: Session, name: str | None, shown: str, opacity: float) -> Updates:
        assert self.review is not None
        first = self.review.first or self.review.step(None, "open") or self.review.step(None)
        return self._open(session, first, shown, opacity)

    def _open(self, session: Session, name: str | None, shown: str, opacity: float, message: str = "") -> Updates:
        """Show a photo of the list; what went wrong with the one before is still said."""
        assert self.review is not None
        if name is None:
            return {self.status: _said("There is no such photo on the list.")}
        try:
            card: Card | None = open_reviewed(session, self.desk, self.review, name, self.limits)
            remarks = self.review.remarks(name)
        except (ValueError, OSError) as error:
            card, remarks = None, str(error)
        said = {self.status: _said(f"{message} {remarks}"), self.brush: gr.update(open=False)}
        return {**self._view(card, opacity), **said, **self._list(session, name, shown)}

    def _judge(
        self, verdict: Verdict | None, session: Session, name: str | None, shown: str, opacity: float
    ) -> Updates:
        """Keep a verdict, or (None) that none of the classes is there, and go on to the next photo."""
        assert self.review is not None
        try:
            if verdict is None:
                following = nothing_here(session, self.review, name)
            else:
                following = judge(session, self.review, name, verdict)
        except (ValueError, OSError) as error:
            return {self.status: _said(str(error))}
        if following is None:
            return {self.status: _said("Every photo of the list is judged."), **self._list(session, name, shown)}
        return self._open(session, following, shown, opacity, f"{name} is {verdict or 'empty: nothing here'}.")

    def _paint_on(self, session: Session, opacity: float) -> Updates:
        return {self.editor: to_editor(session.card, opacity) if session.card else None}

    def _use(self, session: Session, painted: dict[str, Any] | None, opacity: float) -> Updates:
        if not painted or not painted["layers"]:
            return {self.status: _said("Nothing was painted; open the photo's mask and paint on it first.")}
        card = session.paint(painted["layers"][0])
        if card is None:
            return {self.status: _said("Another photo is shown meanwhile; what was painted is not used.")}
        return {**self._view(card, opacity), self.brush: gr.update(open=False)}

    def _step(self, by: int, session: Session, name: str | None, shown: str, opacity: float) -> Updates:
        assert self.review is not None
        return self._open(session, self.review.step(name, _verdict(shown), by, session.listing), shown, opacity)

    def _relist(self, session: Session, name: str | None, shown: str, tag: str, order: Order) -> Updates:
        session.listing = Listing(tag, order)
        return self._list(session, name, shown)

    def _list(self, session: Session, name: str | None, shown: str) -> Updates:
        """The list around a photo, and how many there are of each verdict."""
        review = self.review
        assert review is not None
        names = review.around(name, _verdict(shown), listing=session.listing)
        rows = [(f"{MARKS[review[other].verdict]} {review.file_name(other)}", other) for other in names]
        counts = [("all", len(review.names(listing=session.listing))), *review.counts(session.listing).items()]
        return {
            self.listed: gr.update(choices=rows, value=name),
            self.filter: gr.update(choices=[(f"{kind} ({n})", kind) for kind, n in counts], value=shown),
        }

    # What is seen

    def _view(self, card: Card | None, opacity: float) -> Updates:
        """All that shows a card; nothing if there is none."""
        if card is None:
            off = gr.update(interactive=False)
            return {
                **dict.fromkeys((self.overlay, self.mask, self.cams)),
                self.status: "",
                self.table: "",
                self.tags: gr.update(value=[], interactive=False),
                self.threshold: off,
                self.free: off,
                self.layer: gr.update(visible=False),
            }
        free = card.threshold == "free"
        return {
            **self._masked(card, opacity),
            **self._maps(card),
            **self._layer(card),
            self.tags: gr.update(value=list(card.tags), interactive=True),
            self.threshold: gr.update(interactive=not free, **({} if free else {"value": card.threshold})),
            self.free: gr.update(value=free, interactive=card.analysis.background is not None),
        }

    def _masked(self, card: Card, opacity: float) -> Updates:
        """What follows from the mask."""
        return {
            self.status: "",
            self.overlay: card.overlay(opacity),
            self.mask: card.mask_picture(),
            self.table: card.table(),
        }

    def _layer(self, card: Card) -> Updates:
        """Which mask is shown, where there are several."""
        choices = [*((name, name) for name in card.layers), ("network, these tags", "")]
        return {self.layer: gr.update(choices=choices, value=card.layer, visible=bool(card.layers))}

    def _maps(self, card: Card) -> Updates:
        return {self.cams: card.cam_pictures()}


def _said(message: str) -> str:
    """A message as HTML; names of files are whatever somebody called them."""
    return f"<p>{escape(message.strip())}</p>" if message.strip() else ""


def _verdict(shown: str) -> Verdict | None:
    """The verdict that the filter asks for; None = all."""
    return next((verdict for verdict in VERDICTS if verdict == shown), None)
