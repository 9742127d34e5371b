# The configuration, checked, and the plan of jobs made from it. Nothing here opens a media file.


from importlib.metadata import version

from snakemake.exceptions import WorkflowError

try:
    from concord.cache.errors import ConcordError
    from concord.pipelines.plan import EXTRACTION, Plan, count_gpus, prepare_jobs
except ImportError as error:
    raise WorkflowError(
        f"concord is not installed here ({error}); run: pip install -e ."
    ) from None

try:
    PLAN = Plan.of(config)
    PLAN.check()
except ConcordError as error:
    raise WorkflowError(str(error)) from None

prepare_jobs(PLAN.config)


# Not in a dry run, which writes nothing.
onstart:
    PLAN.write_settings()
    PLAN.mark_used()



# The versions of the libraries that decode: another one may give other numbers.
READERS = {name: version(name) for name in ("av", "decord", "pillow", "torchvision", "torchaudio")}

# Without a limit of its own, Snakemake lets every job of a local run use the GPU at once.
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", max(1, count_gpus()))


def receipts(wildcards):
    """What is joined; with fall-back stores it is known once `fetch` has run."""
    if not PLAN.config.falls_back:
        return PLAN.receipts()
    return PLAN.receipts_after(checkpoints.fetch.get().output.fetched)


wildcard_constraints:
    group="|".join(PLAN.groups),
    part=r"\d+",
    batch=r"\d+",
