// Loading shared libraries at run time.
#ifndef FFF_BENCH_LOAD_H
#define FFF_BENCH_LOAD_H

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iostream>

namespace bench {

// The library that the environment variable names, else the first of the names that the loader finds; null if none.
inline void *open_library(const char *environment, std::initializer_list<const char *> names) {
    if (const char *named = std::getenv(environment)) {
        void *library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) {
            std::cerr << "fff_bench: " << environment << ": " << dlerror() << "\n";
        }
        return library;
    }
    for (const char *name : names) {
        if (void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
            return library;
        }
    }
    return nullptr;
}

template <class Function> bool load(void *library, const char *name, Function &function) {
    void *symbol = dlsym(library, name);
    std::memcpy(&function, &symbol, sizeof symbol);
    return symbol != nullptr;
}

} // namespace bench

#endif
