"""From the figures of all passes to medians, ratios, verdicts and the one table."""
from statistics import median


def ratio(of, to):
    """Pass by pass: the two were measured one after the other."""
    pairs = [a["cost"] / b["cost"] for a, b in zip(of, to)]
    return {"median": median(pairs), "min": min(pairs), "max": max(pairs)}


def summarize(bench, passes):
    """passes: label -> the figures of each round."""
    medians = {label: {key: median(p[key] for p in rounds) for key in rounds[0]}
               for label, rounds in passes.items()}
    summary = {"what": bench.what, "cost_unit": bench.cost_unit, "rate_unit": bench.rate_unit,
               "details": {label: bench.detail(m) for label, m in medians.items()},
               "subject": bench.subject, "passes": passes, "median": medians, "ratio": {}, "goal": None}
    if bench.subject in passes:
        summary["ratio"] = {label: ratio(passes[bench.subject], rounds)
                            for label, rounds in passes.items() if label != bench.subject}
        summary["goal"] = verdict(bench, medians, summary["ratio"])
    return summary


def verdict(bench, medians, ratios):
    goal = bench.goal
    if goal is None:
        return None
    if not goal.against:
        reached, of = medians[bench.subject]["cost"], "absolute"
    else:
        present = [label for label in goal.against if label in medians]
        if not present:
            return None
        of = min(present, key=lambda label: medians[label]["cost"])
        reached = ratios[of]["median"]
    return {"limit": goal.limit, "against": of, "reached": reached, "met": reached <= goal.limit}


def number(value):
    if value is None:
        return ""
    return "%.0f" % value if abs(value) >= 1000 else "%.3g" % value


HEAD = ("bench", "relay", "rate", "p50 µs", "p99 µs", "p99.9 µs", "busy", "cost", "subject / this", "goal", "of which")


def rows(name, summary):
    for label, m in summary["median"].items():
        r, goal = summary["ratio"].get(label), summary["goal"]
        spread = "%.2f (%.2f-%.2f)" % (r["median"], r["min"], r["max"]) if r else ""
        said = ""
        if label == summary["subject"] and goal:
            against = "" if goal["against"] == "absolute" else " of %s" % goal["against"]
            said = "%s <= %g%s: %s" % (number(goal["reached"]), goal["limit"], against,
                                       "met" if goal["met"] else "MISSED")
        rate = "%s %s" % (number(m["rate"]), summary["rate_unit"]) if m.get("rate") else ""
        yield (name, label, rate, number(m.get("p50_us") or None), number(m.get("p99_us") or None),
               number(m.get("p999_us") or None), "%.3g %%" % (100 * m["busy"]) if "busy" in m else "",
               "%s %s" % (number(m["cost"]), summary["cost_unit"]), spread, said, summary["details"][label])


def table(summaries):
    lines = [HEAD] + [row for name, summary in summaries.items() for row in rows(name, summary)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in text)


def markdown(summaries):
    """The same in one row a bench, for a README."""
    lines = ["| what | cost of | " + " | ".join(("stent", "others", "ratio", "must reach")) + " |", "|---|---|---|---|---|---|"]
    for summary in summaries.values():
        goal, subject = summary["goal"], summary["subject"]
        costs = {label: number(m["cost"]) for label, m in summary["median"].items()}
        beside = ", ".join("%s %s" % (label, cost) for label, cost in costs.items() if label != subject)
        absolute = goal is not None and goal["against"] == "absolute"
        ratio_text = "" if goal is None or absolute else "%.2f of %s" % (goal["reached"], goal["against"])
        limit = "" if goal is None else number(goal["limit"]) if absolute else "%.2f" % goal["limit"]
        lines.append("| %s | %s | %s | %s | %s | %s |" % (
            summary["what"], summary["cost_unit"], costs.get(subject, ""), beside, ratio_text, limit))
    return "\n".join(lines)
