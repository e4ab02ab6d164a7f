"""What a person wants to know of a curation, in a few lines."""

from sare_jax.curation import calibrate
from sare_jax.curation.select import Thresholds


def summary(manifest: dict) -> str:
    """Tells a manifest, of captions that were scored or of EFUF's files.

    Args:
      manifest: as `curate` and `read_efuf` make it.
    """
    counts, limits = manifest["counts"], manifest["thresholds"]
    lines = [_limits(limits), _sets(counts), *_left_out(manifest["dropped"])]
    if "captions_scored" not in counts:
        return "\n".join(lines)
    lines.insert(
        0,
        "{captions} captions, {captions_scored} scored; {objects} objects, {phrases} phrases".format(
            **counts
        ),
    )
    if counts["images_scored_whole"]:
        lines.append(f"images smaller than a window, scored whole: {counts['images_scored_whole']}")
    if manifest["cut_phrases"]:
        lines.append(f"phrases longer than the text encoder reads: {len(manifest['cut_phrases'])}")
    if "t0" in limits["chosen"]:
        lines.extend(calibrate.told(Thresholds(**limits)))
    if "audit" in manifest:
        lines.append(_truth(manifest["audit"]))
    return "\n".join(lines)


def _limits(limits: dict) -> str:
    return "T0 {t0:.3f}, T1 {t1:.3f}, T2 {t2:.3f}".format(**limits) + f" ({limits['chosen']['how']})"


def _sets(counts: dict) -> str:
    return "D_neg {neg}, D_pos {pos}, D_sent {sent}".format(**counts)


def _left_out(dropped: dict) -> list[str]:
    return [
        f"left out, {what}: " + ", ".join(f"{n} {reason}" for reason, n in reasons.items())
        for what, reasons in dropped.items()
        if reasons
    ]


def _truth(audit: dict) -> str:
    def share(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    neg, pos = audit["neg"], audit["pos"]
    area = "–" if audit["auc"] is None else f"{audit['auc']:.3f}"
    return (
        f"truth: {share(audit['hallucinated'])} of {audit['judged']} objects are absent, AUC {area}; "
        f"D_neg precision {share(neg['precision'])}, recall {share(neg['recall'])}; "
        f"D_pos precision {share(pos['precision'])}, recall {share(pos['recall'])}"
    )
