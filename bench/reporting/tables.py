"""Tables, in Markdown: each a list of lines."""

import statistics


def number(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}"


def significant(value):
    return "" if value is None else f"{value:.{max(0, 2 - len(str(int(value))) + 1)}f}"


def spread(low_and_high, form=number):
    return "" if low_and_high is None else "{} to {}".format(*map(form, low_and_high))


def noisy(row, flag="noisy"):
    return " (noisy)" if row.get(flag) else ""


def layer_table(rows):
    lines = ["| Model | Width | Batch | Weights | Routes | Instruction set | FFF µs/token | Dense best µs/token | by | "
             "Times faster | Spread | Limit µs/token | % of limit |",
             "|--|--:|--:|--|--|--|--:|--:|--|--:|--|--:|--:|"]
    for r in rows:
        lines.append(f"| {r['model']} | {r['width']} | {r['batch']} | {r['weights']} | {r['routes']} | {r['isa']} | "
                     f"{number(r['fff_us_per_token'])} | {number(r['dense_best_us_per_token'], 1)} | "
                     f"{r['dense_best_peer'] or ('' if r['weights'] == 'hot' else 'none found')} | "
                     f"{significant(r['speedup'])}{noisy(r)} | {spread(r['speedup_spread'], significant)} | "
                     f"{number(r['limit_us_per_token'])} | {number(r['percent_of_limit'], 0)} |")
    return lines


def threads_table(rows):
    lines = ["| Model | Batch | Routes | Instruction set | Threads | µs/token | One thread µs/token | Times one thread | Spread |",
             "|--|--:|--|--|--:|--:|--:|--:|--|"]
    for r in rows:
        lines.append(f"| {r['model']} | {r['batch']} | {r['routes']} | {r['isa']} | {r['threads']} | "
                     f"{number(r['fff_us_per_token'])} | {number(r['one_thread_us_per_token'])} | "
                     f"{number(r['times_one_thread'])}{noisy(r)} | {spread(r['times_one_thread_spread'])} |")
    return lines


def forest_table(rows):
    lines = ["| Layer | Batch | Instruction set | µs/token | Beside it | µs/token | Times as fast | Spread |",
             "|--|--:|--|--:|--|--:|--:|--|"]
    for r in rows:
        lines.append(f"| {r['model']} | {r['batch']} | {r['isa']} | {number(r['fff_us_per_token'])} | {r['beside']} | "
                     f"{number(r['beside_us_per_token'])} | {number(r['times_beside'])}{noisy(r)} | "
                     f"{spread(r['times_beside_spread'])} |")
    return lines


def stored_table(rows, float32_rows):
    """Narrow weights beside float32, by batch and instruction set."""
    lines = ["| Batch | Instruction set | Stored | µs/token | Times f32 | Times faster than dense f32 | Than dense of its type | "
             "by | Reading µs/token | Error, rms | Other routes |", "|--:|--|--|--:|--:|--:|--:|--|--:|--:|--:|"]
    for batch, isa in dict.fromkeys((r["batch"], r["isa"]) for r in rows):
        of_case = [r for r in rows if (r["batch"], r["isa"]) == (batch, isa)]
        float32 = [r for r in float32_rows if all(r[key] == of_case[0][key] for key in ("model", "width", "batch", "isa", "weights", "routes"))]
        speedup = significant(float32[0]["speedup"]) + noisy(float32[0]) if float32 else ""
        reading = float32[0]["reading_us_per_token"] if float32 else None
        lines.append(f"| {batch} | {isa} | f32 | {number(of_case[0]['f32_us_per_token'])} | 1 | {speedup} | "
                     f"{speedup} | | {number(reading)} | 0 | 0 % |")
        for r in of_case:
            lines.append(f"| {batch} | {isa} | {r['stored']} | {number(r['fff_us_per_token'])} | {number(r['times_f32'])}"
                         f"{noisy(r, 'times_f32_noisy')} | {significant(r['speedup'])}{noisy(r)} | "
                         f"{significant(r['times_dense_own'])}{noisy(r, 'times_dense_own_noisy')} | {r['dense_own_peer'] or 'none here'} | {number(r['reading_us_per_token'])} | {r['rms']:.2g} | "
                         f"{100 * r['other_routes']:.2g} % |")
    return lines


def cost_table(rows):
    """The published shape against the other dense layers, best instruction set."""
    lines = ["| Batch | FFF | FFF by BLAS calls | Dense 12 | Dense 3072 | Dense 4095 |", "|--:|--:|--:|--:|--:|--:|"]
    for r in rows:
        lines.append(f"| {r['batch']} | {number(r['fff_us_per_token'])} | {number(r['fff_by_blas_us_per_token'])} | "
                     f"{number(r['dense_12_us_per_token'])} | {number(r['dense_3072_us_per_token'], 1)} | "
                     f"{number(r['dense_best_us_per_token'], 1)} |")
    return lines


def limit_table(rows, hot):
    """The published shape against both parts of its limit, best instruction set; `hot` are its times with all at hand, by
    batch, of which a larger batch has the largest one's."""
    lines = ["| Batch | FFF | Reading | Multiply-adds | % of the longer | % of one after the other | All at hand | "
             "% of reading, then that |", "|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for r in rows:
        fff, reading, multiply_adds = (r[part + "_us_per_token"] for part in ("fff", "reading", "multiply_adds"))
        at_hand = hot.get(max((batch for batch in hot if batch <= r["batch"]), default=None))
        lines.append(f"| {r['batch']} | {number(fff)} | {number(reading)} | {number(multiply_adds)} | "
                     f"{number(r['percent_of_limit'], 0)} | {number(100 * (reading + multiply_adds) / fff, 0)} | {number(at_hand)} | "
                     f"{number(at_hand and 100 * (reading + at_hand) / fff, 0)} |")
    return lines


def kernel_table(runs_by_name):
    lines = ["| Kernel | ns a call | spread | GB/s | GFLOP/s |", "|--|--:|--|--:|--:|"]
    for name, runs in runs_by_name.items():
        times = [run["real_time"] for run in runs]
        rate = lambda key: statistics.median(run[key] for run in runs) / 1e9 if key in runs[0] else None
        lines.append(f"| {name} | {statistics.median(times):.1f} | {min(times):.1f} to {max(times):.1f} | "
                     f"{number(rate('bytes/s'), 1)} | {number(rate('FLOP/s'), 1)} |")
    return lines
