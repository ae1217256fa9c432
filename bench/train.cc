// A training step of one layer, forward and backward, beside that of its dense twin and beside its memory traffic
// alone.
//
//     train/step_1x11/layer/x86_avx2/h768/b128            paths, outputs, gradients of inputs and of rows that were met
//     train/step_1x11/dense_4095_mkl/x86_avx2/h768/b128   a dense layer of as many neurons: six matrix products, by
//                                                         each BLAS found, and GELU
//     train/step_1x11/memory/x86_avx2/h768/b128           each row that is met read once forward and once backward, its
//                                                         gradients written, tokens read and written; nothing computed
//
// The layer borrows its weights, as training does. What the timed loop computed last is checked after it: the layer's
// outputs and gradients against the generic kernels, bit for bit; the twin's, those of some tokens and of some neurons,
// against float64.
#include "bench/blas.h"
#include "bench/setting.h"

#include <cmath>
#include <cstring>

namespace bench {
namespace {

const size_t WIDTH = 768, DEPTH = 11, NEURONS = 4095, PATH = DEPTH + 1, TURNS = 4;

// What both sides are given: weights, and some batches of inputs and of their outputs' gradients.
struct Given {
    Buffer in{NEURONS * WIDTH}, biases{NEURONS}, out{NEURONS * WIDTH}, inputs, output_gradients;
    size_t batch;
    explicit Given(size_t tokens)
        : inputs(TURNS * tokens * WIDTH), output_gradients(TURNS * tokens * WIDTH), batch(tokens) {
        float scale = 1.0f / std::sqrt(static_cast<float>(WIDTH));
        fill_normal(in, scale, 1);
        fill_normal(out, scale, 2);
        fill_normal(inputs, 1.0f, 3);
        fill_normal(output_gradients, 1.0f, 4);
    }
    const float *input(size_t turn) const {
        return inputs.data() + turn % TURNS * batch * WIDTH;
    }
    const float *output_gradient(size_t turn) const {
        return output_gradients.data() + turn % TURNS * batch * WIDTH;
    }
};

// The last one is kept while the next benchmark wants the same.
const Given &given_for(size_t batch) {
    static std::unique_ptr<Given> kept;
    if (!kept || kept->batch != batch) {
        kept.reset();
        kept = std::make_unique<Given>(batch);
    }
    return *kept;
}

// A layer that borrows its weights, with the memory of a step. Gradients are those of listed rows.
class Step {
  public:
    Step(const Given &given, fff_isa isa)
        : given_(given), nodes_(given.batch * PATH), rows_(NEURONS), logits_(given.batch * PATH),
          output_(given.batch * WIDTH), input_gradient(given.batch * WIDTH), in_gradient(NEURONS * WIDTH),
          bias_gradient(NEURONS), out_gradient(NEURONS * WIDTH) {
        fff_layer_desc desc{};
        desc.struct_size = sizeof desc;
        desc.input_width = desc.output_width = WIDTH;
        desc.depth = DEPTH;
        desc.trees = 1;
        desc.isa = isa;
        desc.input_weights = {given.in.data(), WIDTH, 1};
        desc.biases = given.biases.data();
        desc.output_weights = {given.out.data(), WIDTH, 1};
        desc.borrow = 1;
        fff_layer *layer = nullptr;
        expect_ok(fff_layer_create(&desc, &layer));
        layer_.reset(layer);
        size_t forward = 0, backward = 0;
        expect_ok(fff_workspace_size(layer, given.batch, 1, &forward));
        expect_ok(fff_backward_workspace_size(layer, given.batch, 1, &backward));
        size_ = std::max(forward, backward);
        workspace_ = Buffer(size_ / sizeof(float) + 1);
    }
    fff_status run(size_t turn) {
        fff_status status =
            fff_forward_paths(layer_.get(), given_.batch, given_.input(turn), WIDTH, output_.data(), WIDTH,
                              nodes_.data(), PATH, logits_.data(), PATH, workspace_.data(), size_, nullptr);
        if (status == FFF_OK) {
            status = fff_visited_rows(layer_.get(), 0, given_.batch, nodes_.data(), PATH, rows_.data(), NEURONS, &count,
                                      workspace_.data(), size_);
        }
        fff_gradients to{};
        to.struct_size = sizeof to;
        to.rows = rows_.data();
        to.row_count = count;
        to.input_weights = {in_gradient.data(), WIDTH};
        to.biases = bias_gradient.data();
        to.output_weights = {out_gradient.data(), WIDTH};
        return status != FFF_OK ? status
                                : fff_backward(layer_.get(), given_.batch, given_.input(turn), WIDTH, nodes_.data(),
                                               PATH, logits_.data(), PATH, given_.output_gradient(turn), WIDTH,
                                               input_gradient.data(), WIDTH, &to, workspace_.data(), size_, nullptr);
    }
    void clear() {
        for (Buffer *buffer : {&output_, &input_gradient, &in_gradient, &bias_gradient, &out_gradient}) {
            std::fill_n(buffer->data(), buffer->size(), std::nanf(""));
        }
    }
    // What a step reads and writes at the least, copied: rows that some token meets once each way, tokens once each
    // way.
    void copy_only(size_t turn) {
        float near[WIDTH];
        const size_t row_bytes = WIDTH * sizeof(float);
        auto copy_tokens = [&](const float *from, Buffer &to) {
            for (size_t t = 0; t < given_.batch; t++) {
                std::memcpy(near, from + t * WIDTH, row_bytes);
                benchmark::DoNotOptimize(&near[0]);
                std::memcpy(to.data() + t * WIDTH, near, row_bytes);
            }
        };
        for (size_t i = 0; i < count; i++) {
            std::memcpy(near, given_.in.data() + rows_[i] * WIDTH, row_bytes);
            benchmark::DoNotOptimize(&near[0]);
            std::memcpy(near, given_.out.data() + rows_[i] * WIDTH, row_bytes);
            benchmark::DoNotOptimize(&near[0]);
        }
        copy_tokens(given_.input(turn), output_);
        for (size_t i = 0; i < count; i++) {
            std::memcpy(in_gradient.data() + i * WIDTH, given_.in.data() + rows_[i] * WIDTH, row_bytes);
            std::memcpy(out_gradient.data() + i * WIDTH, given_.out.data() + rows_[i] * WIDTH, row_bytes);
        }
        copy_tokens(given_.output_gradient(turn), input_gradient);
    }
    bool same_as(const Step &other) const {
        auto same = [](const Buffer &a, const Buffer &b, size_t n) {
            return std::memcmp(a.data(), b.data(), n * sizeof(float)) == 0;
        };
        return count == other.count && same(input_gradient, other.input_gradient, input_gradient.size()) &&
               same(in_gradient, other.in_gradient, count * WIDTH) && same(bias_gradient, other.bias_gradient, count) &&
               same(out_gradient, other.out_gradient, count * WIDTH) && same(output_, other.output_, output_.size());
    }

  private:
    const Given &given_;
    Layer layer_;
    std::vector<uint32_t> nodes_, rows_;
    Buffer logits_, output_, workspace_;
    size_t size_ = 0;

  public:
    Buffer input_gradient, in_gradient, bias_gradient, out_gradient;
    size_t count = 0; // rows that were met
};

template <typename Run, typename Clear>
void time_steps(benchmark::State &state, size_t batch, const Run &run_next, const Clear &clear) {
    warm_up(run_next);
    clear();
    for (auto _ : state) {
        run_next();
    }
    count_tokens(state, batch);
}

void step(benchmark::State &state, fff_isa isa, size_t batch) {
    const Given &given = given_for(batch);
    Step step(given, isa);
    fff_status status = FFF_OK;
    size_t turn = 0;
    auto run_next = [&] {
        status = step.run(turn++);
        benchmark::DoNotOptimize(step.in_gradient.data());
    };
    time_steps(state, batch, run_next, [&] { step.clear(); });
    Step right(given, FFF_ISA_GENERIC);
    if (status != FFF_OK) {
        wrong_output(state, fff_status_text(status));
    } else if (right.run(turn - 1) != FFF_OK || !step.same_as(right)) {
        wrong_output(state, "gradients differ from the generic kernels'");
    }
}

void memory(benchmark::State &state, fff_isa isa, size_t batch) {
    const Given &given = given_for(batch);
    Step step(given, isa);
    if (step.run(0) != FFF_OK) { // which tells the rows
        wrong_output(state, "the step failed");
        return;
    }
    size_t turn = 0;
    auto run_next = [&] { step.copy_only(turn++); };
    time_steps(state, batch, run_next, [&] { step.clear(); });
    if (std::memcmp(step.input_gradient.data(), given.output_gradient(turn - 1), batch * WIDTH * sizeof(float)) != 0) {
        wrong_output(state, "tokens were not copied");
    }
}

// ---- The dense twin ---------------------------------------------------------------------------

// hidden = inputs in^T, biases being 0; activations = gelu(hidden); outputs = activations out; and back.
class Twin {
  public:
    Twin(const Given &given, const Cblas &blas)
        : given_(given), blas_(blas), hidden_(given.batch * NEURONS), activations_(hidden_.size()),
          slopes_(hidden_.size()), output_(given.batch * WIDTH), input_gradient_(given.batch * WIDTH),
          in_gradient_(NEURONS * WIDTH), out_gradient_(NEURONS * WIDTH) {
    }
    void run(size_t turn) {
        const float *x = given_.input(turn), *g = given_.output_gradient(turn);
        size_t batch = given_.batch;
        static const fff_isa best = usable_isas().back(); // whatever FFF_ISA says
        product(CBLAS_NO_TRANSPOSE, CBLAS_TRANSPOSE, batch, NEURONS, WIDTH, x, given_.in.data(), hidden_);
        (void)fff_activate(best, FFF_ACTIVATION_GELU, FFF_SLEEF_ANY, hidden_.size(), hidden_.data(),
                           activations_.data());
        product(CBLAS_NO_TRANSPOSE, CBLAS_NO_TRANSPOSE, batch, WIDTH, NEURONS, activations_.data(), given_.out.data(),
                output_);
        product(CBLAS_TRANSPOSE, CBLAS_NO_TRANSPOSE, NEURONS, WIDTH, batch, activations_.data(), g, out_gradient_);
        product(CBLAS_NO_TRANSPOSE, CBLAS_TRANSPOSE, batch, NEURONS, WIDTH, g, given_.out.data(), slopes_);
        (void)fff_differentiate(best, FFF_ACTIVATION_GELU, FFF_SLEEF_ANY, hidden_.size(), hidden_.data(),
                                slopes_.data(), slopes_.data());
        product(CBLAS_TRANSPOSE, CBLAS_NO_TRANSPOSE, NEURONS, WIDTH, batch, slopes_.data(), x, in_gradient_);
        product(CBLAS_NO_TRANSPOSE, CBLAS_NO_TRANSPOSE, batch, WIDTH, NEURONS, slopes_.data(), given_.in.data(),
                input_gradient_);
    }
    void clear() {
        for (Buffer *buffer : {&output_, &input_gradient_, &in_gradient_, &out_gradient_}) {
            std::fill_n(buffer->data(), buffer->size(), std::nanf(""));
        }
    }
    // Outputs and input gradients of 4 tokens, and both weights' gradients of 11 neurons, against float64.
    bool looks_right(size_t turn) const {
        size_t batch = given_.batch;
        for (size_t token : {size_t{0}, size_t{1}, batch / 2 + 3, batch - 1}) {
            Sums output(WIDTH), input_gradient(WIDTH);
            for (size_t neuron = 0; neuron < NEURONS; neuron++) {
                Neuron at = neuron_at(turn, token, neuron);
                output.add(at.activation, row(given_.out, neuron));
                input_gradient.add(at.slope, row(given_.in, neuron));
            }
            if (!output.are(row(output_, token)) || !input_gradient.are(row(input_gradient_, token))) {
                return false;
            }
        }
        for (size_t neuron = 0; neuron < NEURONS; neuron += 409) {
            Sums in_gradient(WIDTH), out_gradient(WIDTH);
            for (size_t token = 0; token < batch; token++) {
                Neuron at = neuron_at(turn, token, neuron);
                in_gradient.add(at.slope, given_.input(turn) + token * WIDTH);
                out_gradient.add(at.activation, given_.output_gradient(turn) + token * WIDTH);
            }
            if (!in_gradient.are(row(in_gradient_, neuron)) || !out_gradient.are(row(out_gradient_, neuron))) {
                return false;
            }
        }
        return true;
    }

  private:
    // Of one neuron for one token, in float64 from what was given: its activation, and the derivative by its logit.
    struct Neuron {
        double activation, slope;
    };
    Neuron neuron_at(size_t turn, size_t token, size_t neuron) const {
        double logit = dot(given_.input(turn) + token * WIDTH, row(given_.in, neuron));
        double upstream = dot(given_.output_gradient(turn) + token * WIDTH, row(given_.out, neuron));
        double below = 0.5 * std::erfc(-logit * std::sqrt(0.5)); // the normal distribution's share below it
        double density = 0.3989422804014327 * std::exp(-0.5 * logit * logit);
        return {logit * below, upstream * (below + logit * density)};
    }
    // Sums of multiples of rows, which float32 may miss by many times what rounding explains.
    struct Sums {
        std::vector<double> sums, magnitudes;
        explicit Sums(size_t count) : sums(count), magnitudes(count) {
        }
        void add(double factor, const float *values) {
            for (size_t j = 0; j < sums.size(); j++) {
                double term = factor * static_cast<double>(values[j]);
                sums[j] += term;
                magnitudes[j] += std::fabs(term);
            }
        }
        bool are(const float *found) const {
            for (size_t j = 0; j < sums.size(); j++) {
                if (!(std::fabs(static_cast<double>(found[j]) - sums[j]) <= 1e-5 * magnitudes[j] + 1e-6)) {
                    return false;
                }
            }
            return true;
        }
    };
    static double dot(const float *a, const float *b) {
        double sum = 0;
        for (size_t j = 0; j < WIDTH; j++) {
            sum += static_cast<double>(a[j]) * static_cast<double>(b[j]);
        }
        return sum;
    }
    static const float *row(const Buffer &matrix, size_t index) {
        return matrix.data() + index * WIDTH;
    }
    void product(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, const float *a, const float *b,
                 Buffer &c) {
        blas_.sgemm(CBLAS_ROW_MAJOR, transpose_a, transpose_b, static_cast<int>(m), static_cast<int>(n),
                    static_cast<int>(k), 1.0f, a, static_cast<int>(transpose_a == CBLAS_TRANSPOSE ? m : k), b,
                    static_cast<int>(transpose_b == CBLAS_TRANSPOSE ? k : n), 0.0f, c.data(), static_cast<int>(n));
    }
    const Given &given_;
    const Cblas &blas_;
    Buffer hidden_, activations_, slopes_, output_, input_gradient_, in_gradient_, out_gradient_;
};

void twin(benchmark::State &state, const Cblas &blas, size_t batch) {
    const Given &given = given_for(batch);
    Twin twin(given, blas);
    size_t turn = 0;
    auto run_next = [&] { twin.run(turn++); };
    time_steps(state, batch, run_next, [&] { twin.clear(); });
    if (!twin.looks_right(turn - 1)) {
        wrong_output(state, "the dense twin's outputs or gradients differ from float64");
    }
}

} // namespace

void register_training() {
    for (fff_isa isa : usable_isas()) {
        for (size_t batch : {128, 1024}) {
            std::string rest =
                std::string("/") + fff_isa_name(isa) + "/h" + std::to_string(WIDTH) + "/b" + std::to_string(batch);
            add("train/step_1x11/layer" + rest, [=](benchmark::State &state) { step(state, isa, batch); });
            add("train/step_1x11/memory" + rest, [=](benchmark::State &state) { memory(state, isa, batch); });
            for (const Cblas *blas : found_blas()) {
                add("train/step_1x11/dense_4095_" + blas->name + rest,
                    [=](benchmark::State &state) { twin(state, *blas, batch); });
            }
        }
    }
}

} // namespace bench
