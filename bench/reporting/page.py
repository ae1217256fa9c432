"""The page, report.md: sections, each a list of lines."""

from .cases import preferred
from .spread import NOISY
from .tables import (cost_table, forest_table, kernel_table, layer_table, limit_table, number, significant, stored_table,
                     threads_table)


def main_rows(rows, weights="warm", routes="uniform"):
    """The published shape by batch, best instruction set."""
    wanted = [r for r in rows if (r["model"], r["width"], r["weights"], r["routes"]) == ("1x11", 768, weights, routes)]
    return [r for r in wanted if r["isa"] == preferred({r["isa"] for r in wanted})]


def head(context, notes, seconds):
    return ["# Benchmark results", "",
            f"{context.get('cpu', 'unknown CPU')}, {context['date'][:10]}, one thread on one core; instruction sets: "
            f"{context.get('instruction_sets')}. Compiler {context.get('compiler')}, libfff {context.get('libfff')}, "
            f"SLEEF {context.get('sleef')}. Dense layers by {context.get('dense_peers')}. Took {seconds / 60:.0f} minutes.", "",
            *(f"**Warning:** {note}" + "\n" for note in notes)]


def ratios_section(pictures, one_process):
    spread = ("One process was run, so there is no spread: *Spread* holds its own ratios, and does not tell where another run's "
              "median lies." if one_process else
              "The spread holds all of them, and the median of another such run with a probability of 99 %, as far as this "
              "run's processes can tell.")
    return [f"Ratios are medians of pairs within one process. {spread} Ratios whose own "
            f"pairs spread over more than {100 * NOISY:.0f} % of the median are marked noisy.", "",
            *(f"![{title}]({file})\n" for title, file in pictures)]


def layers_section(rows):
    return ["## Layers", "", *layer_table(rows), ""]


def stored_section(context, rows, float32_rows):
    return ["## By stored type", "",
            "1x11: what the layer stores, beside the layer of float32 in the same process. *Times f32*: how many times as fast "
            "as that. *Than dense of its type*: than the fastest dense layer whose products are of that type "
            f"({context.get('narrow_peers', 'no oneDNN')}); of two types, of the faster one. *Reading*: the visited rows as they "
            "are stored, x and y, with nothing to wait for. *Error*: of the outputs, relative to float32's, both as root mean "
            "squares. *Other routes*: the share of tokens that do not take float32's.", "",
            *stored_table(rows, float32_rows), ""]


def cost_section(rows):
    return ["## The same work otherwise", "",
            "Microseconds a token, 1x11 at 768 wide, best instruction set: the layer; the layer by calls of BLAS level 1; "
            "a dense layer that costs as much as a path; the usual BERT width; as many neurons as the tree.", "",
            *cost_table(rows), ""]


def limit_section(rows, hot_rows):
    hot = {r["batch"]: r["fff_us_per_token"] for r in hot_rows}
    return ["## How far from the limit", "",
            "Microseconds a token, 1x11 at 768 wide, best instruction set: the layer; reading the visited rows and x, and "
            "writing y, with nothing to wait for; the multiply-adds at the core's peak. A core that could do both at once, "
            "wholly, would take the longer; one that can do but one at a time, their sum. *All at hand*: the layer again, as "
            "many tokens as L2 holds, all on one path, again and again; what it takes if memory is for nothing.", "",
            *limit_table(rows, hot), ""]


def threads_section(rows):
    return ["## Threads", "", "The threads of a pool share each batch; every other figure here is of one thread on one core.", "",
            *threads_table(rows), ""]


def training_section(rows):
    return ["## Training", "", "A step of one layer, forward and backward, with listed rows, beside that of its dense "
            "twin: six matrix products, and GELU. The twin is that of the fastest BLAS found, which its name ends in; "
            "*dense_4095* alone, in reports of libfff 1.0.0, is MKL's, whether or not that was the fastest. \"memory\" "
            "copies what a step reads and writes at the least, and computes nothing: the limit by bytes.", "",
            *forest_table(rows), ""]


def forests_section(rows):
    return ["## Leaf layers and forests", "",
            "leaf_KxD_wN: K trees of depth D, which only route, with leaves of N neurons. Beside it a path sum whose "
            "tokens visit as many rows of input weights, D + N a tree; of output weights a leaf layer visits N, a path "
            "sum all. A forest of several parts stands beside its parts as layers of their own, whose outputs are "
            "summed.", "",
            *forest_table(rows), ""]


def leaf_peer_section(peer):
    lines = ["## The authors' leaf layer", "",
             f"The evaluation of fastfeedforward.FFF, the authors' own module, in PyTorch {peer['torch']}, one thread, in one "
             f"process with libfff ({peer['isa']}), both called from Python, in turn; ReLU; both without b2s, as theirs. Every "
             "output was compared.", "",
             "| Layer | Batch | fastfeedforward µs/token | libfff µs/token | Times faster | Spread |", "|--|--:|--:|--:|--:|--|"]
    return lines + [f"| leaf_1x{r['depth']}_w{r['leaf_width']} | {r['batch']} | {significant(r['peer_us_per_token'])} | "
                    f"{number(r['fff_us_per_token'])} | {significant(r['speedup'])}{' (noisy)' if r['noisy'] else ''} | "
                    f"{significant(r['speedup_spread'][0])} to {significant(r['speedup_spread'][1])} |" for r in peer["rows"]] + [""]


def pytorch_section(peer):
    lines = ["## PyTorch", "", f"The layer by batched matrix products in PyTorch {peer['torch']}, one thread, in one process "
             "with libfff, in turn:", "", "| Batch | PyTorch µs/token | libfff µs/token | Times faster | Spread |",
             "|--:|--:|--:|--:|--|"]
    return lines + [f"| {r['batch']} | {r['peer_us_per_token']:.1f} | {r['fff_us_per_token']:.2f} | {significant(r['speedup'])} | "
                    f"{significant(r['speedup_spread'][0])} to {significant(r['speedup_spread'][1])} |" for r in peer["rows"]] + [""]


def kernels_section(kernels):
    return ["## Kernels", "", *kernel_table(kernels), ""]


def markdown(context, notes, results, pictures, seconds):
    lines = head(context, notes, seconds)
    main = main_rows(results.layers)
    limited = [r for r in main if r["reading_us_per_token"] and r["multiply_adds_us_per_token"]]
    training = [r for r in results.forests if r["model"].startswith("step_")]
    forests = [r for r in results.forests if r not in training]
    if results.rows():
        processes = {len(made) for row in results.rows() for key, made in row.items() if key.endswith("_by_process")}
        lines += ratios_section(pictures, processes == {1})
    if results.layers:
        lines += layers_section(results.layers)
    if results.stored:
        lines += stored_section(context, results.stored, results.layers)
    if main:
        lines += cost_section(main)
    if limited:
        lines += limit_section(limited, main_rows(results.layers, "hot", "one_path"))
    if results.threads:
        lines += threads_section(results.threads)
    if training:
        lines += training_section(training)
    if forests:
        lines += forests_section(forests)
    if results.leaf_peer:
        lines += leaf_peer_section(results.leaf_peer)
    if results.pytorch:
        lines += pytorch_section(results.pytorch)
    if results.kernels:
        lines += kernels_section(results.kernels)
    return "\n".join(lines)
