/* Kinds of files by their first bytes, for error messages alone: nothing else depends on a guess. */
#include "bert/file.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum { LOOKED_AT = 512, ZIP_NAME = 30 };

#define MAGIC(text) text, sizeof(text) - 1
static const struct {
    size_t at;
    const char *bytes;
    size_t size;
    const char *kind;
} magics[] = {
    {0, MAGIC("version https://git-lfs.github.com/spec/"), "a Git LFS pointer: `git lfs pull` fetches the file itself"},
    {0, MAGIC("version https://hawser.github.com/spec/"), "a Git LFS pointer: `git lfs pull` fetches the file itself"},
    {0, MAGIC("GGUF"), "a GGUF model"},
    {0, MAGIC("lmgg"), "a GGML model"},
    {0, MAGIC("fmgg"), "a GGML model"},
    {0, MAGIC("tjgg"), "a GGML model"},
    {0, MAGIC("\x93NUMPY"), "a NumPy array (.npy)"},
    {0, MAGIC("\x89HDF\r\n\x1a\n"), "an HDF5 file (.h5)"},
    {0, MAGIC("\x1f\x8b"), "compressed with gzip"},
    {0, MAGIC("BZh"), "compressed with bzip2"},
    {0,
     MAGIC("\xfd"
           "7zXZ\0"),
     "compressed with xz"},
    {0, MAGIC("\x28\xb5\x2f\xfd"), "compressed with zstd"},
    {0, MAGIC("7z\xbc\xaf\x27\x1c"), "a 7-Zip archive"},
    {257, MAGIC("ustar"), "a tar archive"},
    {4, MAGIC("TFL3"), "a TensorFlow Lite model"},
    {0, MAGIC("%PDF-"), "a PDF document"},
    {0,
     MAGIC("\x7f"
           "ELF"),
     "a program or library (ELF)"},
    {0, MAGIC("\xff\xfe"), "a text in UTF-16"},
    {0, MAGIC("\xfe\xff"), "a text in UTF-16"},
};

static bool contains(const unsigned char *bytes, size_t size, const char *text) {
    return memmem(bytes, size, text, strlen(text)) != NULL;
}

/* PyTorch and NumPy write zip archives, and tell themselves apart by the names in them. */
static const char *kind_of_zip(const unsigned char *bytes, size_t size) {
    size_t name = size > ZIP_NAME ? bytes[26] + 256u * bytes[27] : 0;
    name = name < size - ZIP_NAME ? name : size - ZIP_NAME;
    if (size > ZIP_NAME && contains(bytes + ZIP_NAME, name, ".npy")) {
        return "a NumPy archive (.npz)";
    }
    return contains(bytes, size, "data.pkl") ? "a PyTorch file (a zip archive with a pickle)" : "a zip archive";
}

/* A pickle names its protocol, and goes on with an opcode. (0x80, a small number and a 0 byte may be a length.) */
static bool is_pickle(const unsigned char *bytes, size_t size) {
    return size > 2 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5 && bytes[2] != 0;
}

/* Protocol buffers of ONNX begin with the field 1, ir_version, and another with a length. */
static bool is_onnx(const unsigned char *bytes, size_t size) {
    return size > 3 && bytes[0] == 0x08 && bytes[1] >= 1 && bytes[1] <= 32 &&
           strchr("\x12\x1a\x22\x32\x3a\x42", bytes[2]) && bytes[2] != 0 && bytes[3] != 0;
}

/* No control characters, and no bytes that UTF-8 never has. */
static bool is_text(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        bool control = (bytes[i] < ' ' && strchr("\t\n\v\f\r", bytes[i]) == NULL) || bytes[i] == 0x7f || bytes[i] == 0;
        if (control || bytes[i] >= 0xf5 || bytes[i] == 0xc0 || bytes[i] == 0xc1) {
            return false;
        }
    }
    return true;
}

static const char *kind_of_text(const unsigned char *bytes, size_t size) {
    const char *text = (const char *)bytes, *end = text + size;
    text += size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* a byte order mark */
    while (text < end && strchr(" \t\n\v\f\r", *text) != NULL) {
        text++;
    }
    size_t left = (size_t)(end - text);
    if ((left >= 5 && strncasecmp(text, "<html", 5) == 0) ||
        (left >= 14 && strncasecmp(text, "<!doctype html", 14) == 0)) {
        return "an HTML page";
    }
    if (left >= 5 && memcmp(text, "<?xml", 5) == 0) {
        return "an XML text";
    }
    return left > 0 && (*text == '{' || *text == '[') ? "a JSON text" : "a text";
}

const char *fff_file_kind(const void *content, size_t size) {
    const unsigned char *bytes = content;
    size = size < LOOKED_AT ? size : LOOKED_AT;
    if (size == 0) {
        return "empty";
    }
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        if (size >= magics[i].at + magics[i].size &&
            memcmp(bytes + magics[i].at, magics[i].bytes, magics[i].size) == 0) {
            return magics[i].kind;
        }
    }
    if (size >= 4 && (memcmp(bytes, "PK\3\4", 4) == 0 || memcmp(bytes, "PK\5\6", 4) == 0)) {
        return kind_of_zip(bytes, size);
    }
    if (is_pickle(bytes, size)) {
        return "a Python pickle, as PyTorch's older files are";
    }
    if (is_onnx(bytes, size)) {
        return "an ONNX model";
    }
    return is_text(bytes, size) ? kind_of_text(bytes, size) : NULL;
}
