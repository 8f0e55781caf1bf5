// Definitions of model/trainer.hpp.
#include "fewbit/model/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/io/safetensors.hpp"

namespace fewbit::inline v0::model {
namespace {

/// Documents as the rows of one micro-batch.
struct Rows {
    std::vector<int> tokens, targets;
    std::vector<float> weights;
    std::vector<DocumentRows> documents;

    void clear() {
        tokens.clear();
        targets.clear();
        weights.clear();
        documents.clear();
    }
    void add(const TrainingDocument& document) {
        const std::size_t length = document.tokens.size() - 1;
        documents.push_back({tokens.size(), length});
        tokens.insert(tokens.end(), document.tokens.begin(), document.tokens.end() - 1);
        targets.insert(targets.end(), document.tokens.begin() + 1, document.tokens.end());
        weights.insert(weights.end(), document.weights.begin(), document.weights.end());
    }
};

constexpr const char* kind = "fewbit training checkpoint v1";

std::string shape_line(const io::ModelShape& s) {
    return text("dim ", s.dim, ", hidden ", s.hidden, ", layers ", s.layers, ", heads ", s.heads,
                ", kv_heads ", s.kv_heads, ", head_dim ", s.head_dim, ", vocabulary ", s.vocabulary,
                ", context ", s.context, ", rope_base ", s.rope_base, ", norm_epsilon ", s.norm_epsilon,
                s.tied_head ? ", tied head" : "");
}

Result<std::uint64_t> number_in(const io::Metadata& metadata, const std::string& key) {
    const auto found = metadata.find(key);
    std::uint64_t value = 0;
    if (found == metadata.end() || !fewbit::detail::parse_number(found->second, value))
        return fail(ErrorKind::bad_input, "the checkpoint has no number '", key, "'");
    return value;
}

/// Allocates a buffer on first use.
Result<void> need(Buffer<float>& buffer, std::size_t count, const char* what) {
    if (buffer.size() == count) return {};
    auto zeros = Buffer<float>::zeros(count, what);
    if (!zeros) return Unexpected{std::move(zeros).error()};
    buffer = *std::move(zeros);
    return {};
}

}  // namespace

Result<Trainer> Trainer::create(const io::ModelShape& shape, const TrainingOptions& options,
                                ExecutionContext context) {
    if (options.micro_batch < shape.context)
        return fail(ErrorKind::bad_input, "a micro-batch of ", options.micro_batch,
                    " tokens cannot hold a document of the model's context, ", shape.context);
    auto products = TrainingProducts<float>::create(options.fallback, context);
    if (!products) return Unexpected{std::move(products).error()};
    const ParameterTable table(shape);
    auto backpropagation = Backpropagation<float>::create(table, options.micro_batch, *std::move(products));
    if (!backpropagation) return Unexpected{std::move(backpropagation).error()};
    Trainer trainer(options, *std::move(backpropagation));
    const std::pair<Buffer<float>*, const char*> buffers[] = {{&trainer.parameters_, "parameters"},
                                                              {&trainer.gradients_, "gradients"},
                                                              {&trainer.first_, "first moments"},
                                                              {&trainer.second_, "second moments"}};
    for (const auto& [buffer, what] : buffers) {
        auto zeros = Buffer<float>::zeros(table.size(), what);
        if (!zeros) return Unexpected{std::move(zeros).error()};
        *buffer = *std::move(zeros);
    }
    initialize(table, options.seed, trainer.parameters_.span(), options.gain_spread);
    return trainer;
}

Result<Trainer> Trainer::from_model(const io::ModelFile& file, const TrainingOptions& options,
                                    ExecutionContext context) {
    auto trainer = create(file.shape, options, context);
    if (!trainer) return trainer;
    if (auto read = read_parameters(file, trainer->table(), trainer->parameters_.span()); !read)
        return Unexpected{std::move(read).error()};
    return trainer;
}

Result<StepReport> Trainer::step(std::span<const TrainingDocument> documents, const Guidance& guidance) {
    StepReport report{.step = steps_done_ + 1};
    for (const TrainingDocument& document : documents) {
        if (document.tokens.size() < 2 || document.weights.size() + 1 != document.tokens.size() ||
            document.tokens.size() - 1 > table().shape().context)
            return fail(ErrorKind::bad_input, "a document of ", document.tokens.size(), " tokens with ",
                        document.weights.size(), " weights; there is one weight per prediction, and at most ",
                        table().shape().context, " predictions");
        report.tokens += document.weights.size();
        for (const float weight : document.weights) report.weight += static_cast<double>(weight);
    }
    if (!(report.weight > 0)) return fail(ErrorKind::bad_input, "no prediction of this step has any weight");

    const KeepAwake awake(backpropagation_.products().context());
    std::span<const float> effective = parameters_.span();
    if (guidance.weights != nullptr) {
        if (auto room = need(effective_, table().size(), "rounded parameters"); !room)
            return Unexpected{std::move(room).error()};
        if (auto rounded = guidance.weights->forward(parameters_.span(), effective_.span()); !rounded)
            return Unexpected{std::move(rounded).error()};
        effective = effective_.span();
    }
    const std::size_t vocabulary = table().shape().vocabulary;
    if (!guidance.teacher.empty())
        if (auto room = need(teacher_logits_, options_.micro_batch * vocabulary, "a teacher's logits"); !room)
            return Unexpected{std::move(room).error()};

    std::ranges::fill(gradients_.span(), 0.0f);
    const auto scale = static_cast<float>(1 / report.weight);
    Rows rows;
    for (std::size_t next = 0; next < documents.size();) {
        rows.clear();
        while (next < documents.size() &&
               (rows.tokens.empty() ||
                rows.tokens.size() + documents[next].weights.size() <= options_.micro_batch))
            rows.add(documents[next++]);
        const MicroBatch batch{rows.tokens, rows.targets, rows.weights, rows.documents};
        MatrixView<const float> teacher;
        if (!guidance.teacher.empty()) {
            const auto logits = backpropagation_.logits(guidance.teacher, batch);
            if (!logits) return Unexpected{logits.error()};
            std::copy_n(logits->data, rows.tokens.size() * vocabulary, teacher_logits_.data());
            teacher = {teacher_logits_.data(), rows.tokens.size(), vocabulary};
        }
        const auto loss =
            backpropagation_.run(effective, batch, scale, gradients_.span(), guidance.inputs, teacher);
        if (!loss) return Unexpected{loss.error()};
        report.loss += *loss / report.weight;
    }

    if (guidance.weights != nullptr)
        if (auto turned = guidance.weights->backward(parameters_.span(), gradients_.span()); !turned)
            return Unexpected{std::move(turned).error()};
    report.gradient_norm = norm_of(gradients_.span());
    if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm))
        return fail(ErrorKind::bad_input, "step ", report.step, " has a loss of ", report.loss,
                    " and a gradient of norm ", report.gradient_norm,
                    "; training has diverged, try a lower learning rate");
    report.learning_rate = options_.schedule.rate(report.step);
    const double clip =
        report.gradient_norm > options_.clip_norm ? options_.clip_norm / report.gradient_norm : 1;
    const ExecutionContext context = backpropagation_.products().context();
    for (const ParameterSlot& slot : table().slots()) {
        const auto part = [&](const Buffer<float>& buffer) {
            return buffer.span().subspan(slot.first, slot.size());
        };
        adamw_step(options_.adamw, report.step, report.learning_rate, clip, !slot.is_vector,
                   part(parameters_), part(gradients_), part(first_), part(second_), context);
    }
    if (guidance.weights != nullptr) guidance.weights->update(report.step, report.learning_rate, clip);
    ++steps_done_;
    return report;
}

Result<void> Trainer::save(const std::filesystem::path& path, std::uint64_t documents_seen) const {
    std::map<std::string, Tensor> tensors;
    const std::pair<const char*, const Buffer<float>*> parts[] = {
        {"parameters", &parameters_}, {"first_moments", &first_}, {"second_moments", &second_}};
    for (const auto& [name, buffer] : parts) {
        auto tensor =
            Tensor::borrow(Scalar::f32, {buffer->size()}, std::as_bytes(buffer->span()), buffer->owner());
        if (!tensor) return Unexpected{std::move(tensor).error()};
        tensors[name] = *std::move(tensor);
    }
    return io::save_tensors(path, tensors,
                            {{"kind", kind},
                             {"shape", shape_line(table().shape())},
                             {"steps", std::to_string(steps_done_)},
                             {"documents", std::to_string(documents_seen)}});
}

Result<std::uint64_t> Trainer::resume(const std::filesystem::path& path) {
    auto loaded = io::load_tensors(path);
    if (!loaded) return Unexpected{std::move(loaded).error()};
    const auto text_of = [&](const char* key) {
        const auto found = loaded->metadata.find(key);
        return found == loaded->metadata.end() ? std::string() : found->second;
    };
    if (text_of("kind") != kind) return fail(ErrorKind::bad_input, "'", path.string(), "' is no ", kind);
    if (const std::string expected = shape_line(table().shape()); text_of("shape") != expected)
        return fail(ErrorKind::bad_input, "'", path.string(), "' is of another model (", text_of("shape"),
                    "), not ", expected);
    const auto steps = number_in(loaded->metadata, "steps");
    if (!steps) return steps;
    const auto documents = number_in(loaded->metadata, "documents");
    if (!documents) return documents;
    const std::pair<const char*, Buffer<float>*> parts[] = {
        {"parameters", &parameters_}, {"first_moments", &first_}, {"second_moments", &second_}};
    for (const auto& [name, buffer] : parts) {
        const auto found = loaded->tensors.find(name);
        if (found == loaded->tensors.end() || found->second.type() != Scalar::f32 ||
            found->second.elements() != buffer->size())
            return fail(ErrorKind::bad_input, "'", path.string(), "' has no f32 tensor '", name, "' of ",
                        buffer->size(), " elements");
    }
    for (const auto& [name, buffer] : parts)
        std::memcpy(buffer->data(), loaded->tensors.at(name).bytes().data(), buffer->size() * sizeof(float));
    steps_done_ = *steps;
    return *documents;
}

double training_operations(const ParameterTable& table) noexcept {
    double weights = 0;
    for (const ParameterSlot& slot : table.slots())
        if (!slot.is_vector) weights += static_cast<double>(slot.size());
    if (table.head() != table.embedding())  // rows are looked up, not multiplied
        weights -= static_cast<double>(table.slots()[table.embedding()].size());
    return 6 * weights;
}

}  // namespace fewbit::inline v0::model
