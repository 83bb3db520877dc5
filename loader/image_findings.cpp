#include "loader/image_findings.hpp"

#include "loader/note.hpp"
#include "plugin/abi.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::loader {
namespace {

constexpr std::string_view use_add_plugin = "build it with molt_add_plugin";
constexpr std::size_t names_shown_max = 5;
constexpr std::size_t name_shown_max = 120;  // templates' names have no end

/// An import that hurts when the library goes, or that a plugin has no business with.
struct suspicious_import {
  std::string_view name;
  finding_kind kind;
  std::string_view why;
  std::string_view hint;
};

constexpr std::string_view no_threads = "plugins own no threads: use timers and messages";
constexpr std::string_view no_exit = "release resources in terminate()";
constexpr std::array<suspicious_import, 15> suspicious_imports{{
    {"pthread_create", finding_kind::owns_threads, "starts threads, which would run unmapped code", no_threads},
    {"thrd_create", finding_kind::owns_threads, "starts threads, which would run unmapped code", no_threads},
    {"__cxa_thread_atexit", finding_kind::thread_exit_handler,
     "has a thread_local with a destructor, which pins the image until every thread that touched it ends",
     "keep such data in the server's state"},
    {"__cxa_thread_atexit_impl", finding_kind::thread_exit_handler,
     "has a thread_local with a destructor, which pins the image until every thread that touched it ends",
     "keep such data in the server's state"},
    {"atexit", finding_kind::exit_handler, "registers an exit handler", no_exit},
    {"on_exit", finding_kind::exit_handler, "registers an exit handler", no_exit},
    {"at_quick_exit", finding_kind::exit_handler, "registers an exit handler", no_exit},
    {"__cxa_at_quick_exit", finding_kind::exit_handler, "registers an exit handler", no_exit},
    {"pthread_atfork", finding_kind::exit_handler, "registers a fork handler", no_exit},
    {"__register_atfork", finding_kind::exit_handler, "registers a fork handler", no_exit},
    {"signal", finding_kind::signal_handler, "sets signal handlers", "leave signals to the node"},
    {"sigaction", finding_kind::signal_handler, "sets signal handlers", "leave signals to the node"},
    {"pthread_key_create", finding_kind::thread_key, "makes thread keys, whose destructors may run after it is gone",
     "keep such data in the server's state"},
    {"tss_create", finding_kind::thread_key, "makes thread keys, whose destructors may run after it is gone",
     "keep such data in the server's state"},
    // What std::thread's header calls to start one; std::thread::hardware_concurrency and <thread> alone do not.
    {"_ZNSt6thread15_M_start_threadE", finding_kind::owns_threads, "starts threads, which would run unmapped code",
     no_threads},
}};

/// Libraries that the host has anyway, so that they neither come nor go with the plugin.
constexpr std::array<std::string_view, 12> host_libraries{
    "libstdc++.so.", "libm.so.",  "libgcc_s.so.", "libc.so.",    "ld-linux",     "libpthread.so.",
    "libdl.so.",     "librt.so.", "libasan.so.",  "libtsan.so.", "libubsan.so.", "liblsan.so."};

class judge {
 public:
  judge(const std::filesystem::path& path, std::size_t file_size, const elf_image& image) : image_{image} {
    seen_.path = path;
    seen_.size = file_size;
    seen_.machine = image.machine;
    seen_.build_id = image.build_id;
    seen_.needed.assign(image.needed.begin(), image.needed.end());
  }

  inspection run() {
    judge_note();
    judge_flags();
    judge_exports();
    judge_imports();
    judge_libraries();
    std::stable_partition(seen_.findings.begin(), seen_.findings.end(),
                          [](const finding& one) { return one.level == severity::refuse; });
    return std::move(seen_);
  }

 private:
  void refuse(finding_kind kind, std::string text, std::string_view hint) {
    seen_.findings.push_back({kind, severity::refuse, std::move(text), std::string{hint}});
  }
  void warn(finding_kind kind, std::string text, std::string_view hint) {
    seen_.findings.push_back({kind, severity::warn, std::move(text), std::string{hint}});
  }

  void judge_note() {
    if (image_.build_id.empty())
      refuse(finding_kind::missing_build_id, "has no build ID",
             "link it with -Wl,--build-id=sha1, or " + std::string{use_add_plugin});
    if (image_.molt_notes.empty())
      return refuse(finding_kind::missing_note, "has no molt note: it is not a plugin",
                    "a plugin's source ends with MOLT_PLUGIN(...)");
    if (image_.molt_notes.size() > 1)
      return refuse(finding_kind::duplicate_note, "has " + std::to_string(image_.molt_notes.size()) + " molt notes",
                    "use MOLT_PLUGIN(...) once in a plugin");
    const auto header = read_note_header(image_.molt_notes.front());
    if (!header) return refuse(finding_kind::bad_note, header.error().message(), header.error().hint());
    const bool foreign = header->abi_version != MOLT_ABI_VERSION;
    if (foreign)
      refuse(finding_kind::foreign_abi,
             "is for plugin ABI version " + std::to_string(header->abi_version) + ", this host has version " +
                 std::to_string(MOLT_ABI_VERSION),
             "build it against the molt that will run it");
    auto plugin = decode_note(image_.molt_notes.front());
    if (plugin)
      seen_.plugin = std::move(*plugin);
    else if (!foreign)
      refuse(finding_kind::bad_note, plugin.error().message(), plugin.error().hint());
  }

  void judge_flags() {
    if (image_.text_relocations)
      refuse(finding_kind::text_relocations, "has text relocations (DT_TEXTREL)",
             "compile everything in it with -fPIC");
    if (image_.executable_stack)
      refuse(finding_kind::executable_stack, "asks for an executable stack", "link it with -Wl,-z,noexecstack");
    if (image_.writable_code)
      refuse(finding_kind::writable_code, "has a segment that is writable and executable", use_add_plugin);
    for (const auto path : image_.run_paths)
      refuse(finding_kind::run_path, "has the run path " + std::string{path} + " (DT_RPATH or DT_RUNPATH)",
             "link it without -rpath; in CMake SKIP_BUILD_RPATH");
    if (image_.no_delete)
      warn(finding_kind::no_delete, "is marked DF_1_NODELETE: it stays mapped after it was replaced",
           "link it without -Wl,-z,nodelete");
    if (image_.thread_local_storage)
      warn(finding_kind::thread_local_storage,
           "has thread-local storage: glibc 2.34 to 2.36 may crash when such a library is "
           "closed, so there it stays mapped",
           "keep such data in the server's state");
    if (image_.static_tls)
      warn(finding_kind::static_tls, "needs static thread-local storage, of which a process has little",
           "compile it with -ftls-model=global-dynamic");
    if (carries_runtime())
      refuse(finding_kind::private_runtime, "carries its own C++ runtime",
             "link it without -static-libstdc++ and -static-libgcc");
  }

  // Hidden symbols of a stripped file cannot be seen, but what only a C++ runtime itself imports can.
  [[nodiscard]] bool carries_runtime() const {
    return image_.defines_exceptions ||
           std::any_of(image_.symbols.begin(), image_.symbols.end(), [](const elf_symbol& symbol) {
             return !symbol.defined && (symbol.name == "_Unwind_RaiseException" || symbol.name == "_dl_find_object");
           });
  }

  void judge_exports() {
    bool exports_table = false;
    std::vector<std::string> unique;
    std::vector<std::string> extra;
    for (const auto& symbol : image_.symbols) {
      if (symbol.exported && symbol.name == MOLT_PLUGIN_SYMBOL) exports_table = true;
      if (symbol.unique && symbol.defined) unique.emplace_back(symbol.name);
      if (symbol.exported && !symbol.unique && symbol.name != MOLT_PLUGIN_SYMBOL && !linker_made(symbol.name))
        extra.emplace_back(symbol.name);
    }
    if (!exports_table)
      refuse(finding_kind::missing_export, "does not export " MOLT_PLUGIN_SYMBOL,
             "a plugin's source ends with MOLT_PLUGIN(...)");
    if (!unique.empty())
      refuse(finding_kind::unique_symbol,
             "has unique symbols (STB_GNU_UNIQUE), which pin it and share statics between versions: " + listed(unique),
             "compile everything in it with -fno-gnu-unique");
    if (!extra.empty())
      warn(finding_kind::extra_exports, "exports more than its table: " + listed(extra),
           "another library's symbol of that name may be used instead; " + std::string{use_add_plugin});
  }

  static bool linker_made(std::string_view name) {
    return name == "_init" || name == "_fini" || name == "_edata" || name == "_end" || name == "__bss_start" ||
           name.starts_with("__asan_") || name.starts_with("__odr_asan") || name.starts_with("__gcov");
  }

  // A weak reference is only a question whether something is there: libstdc++'s headers ask so for threads.
  void judge_imports() {
    const bool deletes_keys = imports("pthread_key_delete") || imports("tss_delete");
    for (const auto& suspect : suspicious_imports) {
      const auto found = std::find_if(image_.symbols.begin(), image_.symbols.end(), [&](const elf_symbol& symbol) {
        return !symbol.defined && !symbol.weak &&
               (symbol.name == suspect.name ||
                (suspect.name.starts_with("_Z") && symbol.name.starts_with(suspect.name)));
      });
      if (found == image_.symbols.end()) continue;
      std::string text = std::string{suspect.why} + " (imports " + std::string{found->name} + ")";
      const bool only_warn =
          suspect.kind == finding_kind::signal_handler || (suspect.kind == finding_kind::thread_key && deletes_keys);
      if (only_warn)
        warn(suspect.kind, std::move(text), suspect.hint);
      else
        refuse(suspect.kind, std::move(text), suspect.hint);
    }
  }

  [[nodiscard]] bool imports(std::string_view name) const {
    return std::any_of(image_.symbols.begin(), image_.symbols.end(),
                       [name](const elf_symbol& symbol) { return !symbol.defined && symbol.name == name; });
  }

  void judge_libraries() {
    for (const auto& library : seen_.needed) {
      const bool known = std::any_of(host_libraries.begin(), host_libraries.end(),
                                     [&](std::string_view start) { return library.starts_with(start); });
      if (!known)
        warn(finding_kind::foreign_library, "needs " + library + ", which is not inspected and comes and goes with it",
             "link it statically into the plugin");
    }
  }

  static std::string listed(const std::vector<std::string>& names) {
    std::string out;
    for (std::size_t i = 0; i < std::min(names.size(), names_shown_max); ++i) {
      out += (i == 0 ? "" : ", ") + names[i].substr(0, name_shown_max);
      if (names[i].size() > name_shown_max) out += "...";
    }
    if (names.size() > names_shown_max) out += " and " + std::to_string(names.size() - names_shown_max) + " more";
    return out;
  }

  const elf_image& image_;
  inspection seen_;
};

}  // namespace

inspection inspect_image(const std::filesystem::path& path, std::size_t file_size, const elf_image& image) {
  return judge{path, file_size, image}.run();
}

}  // namespace molt::loader
