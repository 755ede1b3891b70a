"""The command ``serve``."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import no_service
from .image_run import crops_option, provider_option
from .map_options import map_options
from .service_options import recipe_option

if TYPE_CHECKING:
    from ..maps.kind import Kind


@click.command(
    short_help="Answer photos with boxes, over HTTP.",
    epilog="""\b
Examples:
  backlit serve model.backlit.onnx
  backlit serve model.backlit.onnx --host 0.0.0.0 --port 80 --api-keys keys.txt
  backlit serve model.backlit.onnx --providers cuda --device 0,1
  curl -F image=@photo.jpg 'http://127.0.0.1:8000/localize?top=3'""",
)
@click.argument("file", type=click.Path())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one."
)
@click.option("--providers", help="Execution providers that must load, such as cuda,cpu.")
@provider_option
@click.option(
    "--device",
    metavar="N,...",
    help="GPUs by number: the file is open on each, and whichever is free takes the next batch.",
)
@click.option("--threads", type=int, help="Threads within an operator on the CPU.  [default: 1]")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes, each with the file open on every device and with limits of its own.",
)
@recipe_option
@crops_option("what the recipe wants")
@map_options("what the recipe wants")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Views per run at most.  [default: 4 on a CPU, 32 on a GPU]",
)
@click.option(
    "--delay",
    type=click.FloatRange(0, 10_000),
    metavar="MS",
    default=5.0,
    show_default=True,
    help="How long a batch waits, at most, for requests that are being decoded.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    metavar="N",
    default=128,
    show_default=True,
    help="Requests that are taken and not answered; a further one gets 429.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="For a request, from its head to its answer; then it gets 504, or 408 without its body.",
)
@click.option(
    "--max-megabytes",
    type=click.FloatRange(0.001, 1000),
    metavar="MB",
    default=20.0,
    show_default=True,
    help="Of an image's file.",
)
@click.option(
    "--max-megapixels",
    type=click.FloatRange(0.001, 10_000),
    metavar="MP",
    default=50.0,
    show_default=True,
    help="Of an image.",
)
@click.option(
    "--max-top",
    type=click.IntRange(min=1),
    metavar="K",
    default=10,
    show_default=True,
    help="Classes of a request.",
)
@click.option(
    "--allow-urls",
    is_flag=True,
    help="Fetch images from http and https addresses of the public internet, too.",
)
@click.option(
    "--api-keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keys, one on each line; a request for boxes must come with one of them.",
)
def serve(
    file: str,
    host: str,
    port: int,
    kind: Kind | None,
    recipe: str,
    crops: str | None,
    settings: tuple[str, ...],
    device: str | None,
    api_keys: Path | None,
    **options: Any,
) -> None:
    """Serve a Backlit FILE: photos by HTTP, boxes as JSON, and a page to try it on.

    POST an image to /localize, as a form's file (curl -F image=@photo.jpg), as the body itself, or
    as base64 in JSON; the answer is what localize prints. top=3 or class=7 asks for classes,
    overlay=true and map=true for pictures. Requests that wait share a run of the network.

    / is a page to drop a photo on; /docs and /openapi.json describe the service; /metrics is for
    Prometheus, /healthz and /readyz for whoever keeps it running. SIGTERM finishes what was taken.

    One JSON object on stdout says where it listens; each request is a line of JSON on stderr.
    """
    from ..backend.options import parse
    from ..boxes.recipes import get_recipe

    try:
        from ..serving import logs
        from ..serving.metrics import Metrics
        from ..serving.opening import open_engine
        from ..serving.server import BACKLOG, bound, serve_here, serve_in_processes
        from ..serving.settings import Limits, Settings, parse_devices, read_keys
    except ModuleNotFoundError as error:
        raise no_service(error) from error

    served = Settings(
        file,
        get_recipe(recipe).starting_from(kind),
        crops=None if crops is None else int(crops),
        options=parse(settings),
        devices=() if device is None else parse_devices(device),
        keys=frozenset() if api_keys is None else read_keys(api_keys),
        limits=Limits(
            image_bytes=round(1e6 * options.pop("max_megabytes")),
            pixels=round(1e6 * options.pop("max_megapixels")),
            queue=options.pop("queue"),
            classes=options.pop("max_top"),
            seconds=options.pop("timeout"),
        ),
        delay=options.pop("delay") / 1e3,
        urls=options.pop("allow_urls"),
        **options,
    )
    with bound(host, port) as sock:
        logs.begin()
        if not (served.keys or ipaddress.ip_address(sock.getsockname()[0]).is_loopback):
            logs.LOG.warning("everybody who reaches %s may ask: there are no --api-keys", host)
        said = {"file": file, "url": _url(host, sock.getsockname()[1])}
        if served.workers > 1:
            sock.listen(BACKLOG)  # who comes before a process is ready waits
            click.echo(json.dumps(said))
            serve_in_processes(served, sock)
            return
        metrics = Metrics()
        engine = open_engine(served, metrics.ran)
        said["provider"] = engine.runners[0].provider
        sock.listen(BACKLOG)
        click.echo(json.dumps(said))
        serve_here(served, sock, engine, metrics)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
