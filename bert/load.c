/* Opening a model: the folder and its files. */
#include "bert/load.h"

#include "bert/blas.h"
#include "bert/file.h"
#include "bert/sentence.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- What it runs on ------------------------------------------------------------------------- */

/* Chooses the instruction set. If that fails it is no file's fault: the message is about the environment or the call.
 */
static bool choose_isa(struct fff_bert *model, char *error, size_t error_size) {
    char chosen[64], usable[128] = "";
    const char *environment = getenv("FFF_ISA"), *name = fff_isa_name(model->options.isa);
    bool by_environment = model->options.isa == FFF_ISA_AUTO && environment != NULL;
    snprintf(chosen, sizeof chosen, "%s%s", by_environment ? "FFF_ISA=" : "instruction set ",
             by_environment ? environment
             : name != NULL ? name
                            : "of no known number");
    fff_status status = fff_isa_choose(model->options.isa, &model->options.isa);
    if (status == FFF_OK) {
        return true;
    }
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            size_t used = strlen(usable);
            snprintf(usable + used, sizeof usable - used, "%s%s", used > 0 ? ", " : "", fff_isa_name((fff_isa)isa));
        }
    }
    const struct fff_report report = {chosen, error, error_size};
    return FFF_FAIL(&report, "%s; usable here: %s", fff_status_text(status), usable);
}

/* Nor is another SLEEF, whose bits would differ. */
static bool check_sleef(const struct fff_bert *model, char *error, size_t error_size) {
    const fff_bert_options *options = &model->options;
    fff_status status = fff_activate(options->isa, model->config.activation, options->sleef, 0, NULL, NULL);
    const struct fff_report report = {fff_sleef_path() != NULL ? fff_sleef_path() : "SLEEF", error, error_size};
    return status == FFF_OK || FFF_FAIL(&report, "%s", fff_status_text(status));
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Says what it is that was given for a model's folder and is none. */
static bool check_folder(const char *directory, char *error, size_t error_size) {
    const struct fff_report report = {directory, error, error_size};
    struct stat about;
    if (stat(directory, &about) != 0) {
        return FFF_FAIL(&report, "%s", strerror(errno));
    }
    if (S_ISDIR(about.st_mode)) {
        return true;
    }
    if (!S_ISREG(about.st_mode)) {
        return FFF_FAIL(&report, "no folder, which a model is");
    }
    char why[512];
    fff_safetensors *file = fff_safetensors_open(directory, why, sizeof why);
    bool layer = file != NULL && fff_safetensors_find(file, "linear_in.weight") != NULL;
    fff_safetensors_close(file);
    if (layer) {
        return FFF_FAIL(&report, "a layer, not a model: `fff verify` reads it, `fff bert` needs a model's folder");
    }
    return FFF_FAIL(&report, "a file; a model is a folder with config.json and model.safetensors");
}

static bool open_config(struct fff_bert *model, const char *directory, char *error, size_t error_size) {
    static const char *const names[] = {"config.json", "model_config.json"};
    const struct fff_report report = {directory, error, error_size};
    char path[FFF_LONGEST_PATH];
    for (size_t i = 0; i < 2; i++) {
        if (!fff_join_path(directory, names[i], path, error, error_size)) {
            return false;
        }
        if (fff_exists(path)) {
            return fff_bert_config_open(path, &model->config, error, error_size);
        }
    }
    return FFF_FAIL(&report, "holds neither config.json nor model_config.json");
}

static bool open_sentence(struct fff_bert *model, const char *directory, char *error, size_t error_size) {
    fff_bert_config *config = &model->config;
    if (!fff_sentence_open(directory, config->hidden_size, &model->sentence, error, error_size)) {
        return false;
    }
    size_t length = model->sentence.text_length;
    config->lower_case = model->sentence.lower_case;
    config->own_text_length = length > 0;
    config->text_length = length > 0 && length < config->max_length ? length : config->max_length;
    return true;
}

static bool load(struct fff_bert *model, char *error, size_t error_size) {
    struct fff_loading loading = {.model = model, .report = {model->checkpoint.path, error, error_size}};
    bool (*family)(struct fff_loading *) =
        model->config.family == FFF_BERT_POST_NORM ? fff_load_post_norm : fff_load_crammed;
    loading.checking = true;
    if (!family(&loading)) {
        return false;
    }
    loading.checking = false;
    model->layers = calloc(model->config.layers, sizeof *model->layers);
    if (model->layers == NULL) {
        return FFF_FAIL(&loading.report, "out of memory");
    }
    return family(&loading) && fff_load_pack(&loading);
}

static bool open_model(struct fff_bert *model, const char *directory, char *error, size_t error_size) {
    return choose_isa(model, error, error_size) && check_folder(directory, error, error_size) &&
           open_config(model, directory, error, error_size) && check_sleef(model, error, error_size) &&
           open_sentence(model, directory, error, error_size) &&
           fff_checkpoint_open(directory, &model->checkpoint, error, error_size) &&
           fff_blas_load(error, error_size) != NULL && load(model, error, error_size);
}

fff_bert *fff_bert_open(const char *directory, const fff_bert_options *options, char *error, size_t error_size) {
    fff_bert *model = calloc(1, sizeof *model);
    if (model == NULL) {
        const struct fff_report report = {directory, error, error_size};
        fff_report(&report, "out of memory");
        return NULL;
    }
    if (options != NULL) {
        model->options = *options;
    }
    if (!open_model(model, directory, error, error_size)) {
        fff_bert_close(model);
        return NULL;
    }
    return model;
}

void fff_bert_close(fff_bert *model) {
    if (model == NULL) {
        return;
    }
    for (size_t i = 0; i < model->config.layers && model->layers != NULL; i++) {
        fff_layer_destroy(model->layers[i].trees);
    }
    for (size_t i = 0; i < model->owned_count; i++) {
        free(model->owned[i]);
    }
    free(model->owned);
    free(model->layers);
    fff_checkpoint_close(&model->checkpoint);
    free(model);
}

const fff_bert_config *fff_bert_configuration(const fff_bert *model) {
    return &model->config;
}

size_t fff_bert_file_size(const fff_bert *model) {
    return fff_checkpoint_size(&model->checkpoint);
}

size_t fff_bert_packed_size(const fff_bert *model) {
    size_t size = 0;
    for (size_t i = 0; i < model->config.layers; i++) {
        size += fff_layer_memory(model->layers[i].trees);
    }
    return size;
}
