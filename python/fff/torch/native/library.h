/* libfff, opened at run time: it is the file that the Python package has loaded. */
#ifndef FFF_TORCH_LIBRARY_H
#define FFF_TORCH_LIBRARY_H

#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <cstdio>
#include <type_traits>

#include "fff/fff.h"

namespace {

struct Library {
    decltype(&fff_version) version;
    decltype(&fff_status_text) status_text;
    decltype(&fff_layer_create) layer_create;
    decltype(&fff_layer_destroy) layer_destroy;
    decltype(&fff_layer_memory) layer_memory;
    decltype(&fff_layer_path_length) layer_path_length;
    decltype(&fff_nodes_per_tree) nodes_per_tree;
    decltype(&fff_workspace_size) workspace_size;
    decltype(&fff_forward) forward;
    decltype(&fff_route) route;
    decltype(&fff_forward_paths) forward_paths;
    decltype(&fff_backward_workspace_size) backward_workspace_size;
    decltype(&fff_visited_rows) visited_rows;
    decltype(&fff_backward) backward;
};

Library library; /* set once, by open_library(), under Python's lock, before the operators can be called */

void open_library(const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(handle != nullptr, "libfff cannot be loaded: ", dlerror());
    Library found;
    auto find = [&](const char *name, auto &function) {
        function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
        TORCH_CHECK(function != nullptr, path, " is older than this package: it lacks ", name, "()");
    };
    find("fff_version", found.version);
    find("fff_status_text", found.status_text);
    find("fff_layer_create", found.layer_create);
    find("fff_layer_destroy", found.layer_destroy);
    find("fff_layer_memory", found.layer_memory);
    find("fff_layer_path_length", found.layer_path_length);
    find("fff_nodes_per_tree", found.nodes_per_tree);
    find("fff_workspace_size", found.workspace_size);
    find("fff_forward", found.forward);
    find("fff_route", found.route);
    find("fff_forward_paths", found.forward_paths);
    find("fff_backward_workspace_size", found.backward_workspace_size);
    find("fff_visited_rows", found.visited_rows);
    find("fff_backward", found.backward);
    int major = 0, minor = 0;
    int read = sscanf(found.version(), "%d.%d", &major, &minor);
    TORCH_CHECK(read == 2 && major == FFF_VERSION_MAJOR && minor >= FFF_VERSION_MINOR, path, " is libfff ",
                found.version(), ", where this package wants ", FFF_VERSION_MAJOR, ".", FFF_VERSION_MINOR,
                ", or a later one of the same major version");
    library = found;
}

void check(fff_status status, const char *what) {
    TORCH_CHECK(status == FFF_OK, what, ": ", library.status_text(status));
}

} // namespace

#endif
