#include "loader/image_findings.hpp"

#include "base/utf8.hpp"
#include "loader/finding_rules.hpp"
#include "loader/note.hpp"
#include "plugin/abi.h"
#include "plugin/toolchain.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::loader {
namespace {

constexpr std::size_t name_shown_max = 200;  // templates' names have no end

/// An import that hurts when the library goes, or that a plugin has no business with.
struct suspicious_import {
  std::string_view name;
  finding_kind kind;
  std::string_view why;
};

constexpr std::string_view threads = "starts threads, which would run unmapped code";
constexpr std::string_view thread_exit =
    "has a thread_local with a destructor, which pins the image until every thread that touched it ends";
constexpr std::string_view keys = "makes thread keys, whose destructors may run after it is gone";
constexpr std::string_view at_exit = "registers an exit handler";
constexpr std::string_view at_fork = "registers a fork handler";
constexpr std::string_view signals = "sets signal handlers";
constexpr std::string_view timers = "sets timers of the operating system, which call into this version";
constexpr std::string_view opens = "loads further code";
constexpr std::string_view forks = "forks the node";
constexpr std::string_view execs = "replaces the node by another program";
constexpr std::string_view starts = "starts processes";
constexpr std::string_view ends = "ends the node";

// std::thread: what its header calls to start one; std::thread::hardware_concurrency and <thread> alone do not.
constexpr auto suspicious_imports = std::to_array<suspicious_import>({
    {"pthread_create", finding_kind::owns_threads, threads},
    {"thrd_create", finding_kind::owns_threads, threads},
    {"_ZNSt6thread15_M_start_threadE", finding_kind::owns_threads, threads},
    {"GOMP_parallel", finding_kind::owns_threads, threads},
    {"__kmpc_fork_call", finding_kind::owns_threads, threads},
    {"__cxa_thread_atexit", finding_kind::thread_exit_handler, thread_exit},
    {"__cxa_thread_atexit_impl", finding_kind::thread_exit_handler, thread_exit},
    {"pthread_key_create", finding_kind::thread_key, keys},
    {"__pthread_key_create", finding_kind::thread_key, keys},
    {"tss_create", finding_kind::thread_key, keys},
    {"atexit", finding_kind::exit_handler, at_exit},
    {"on_exit", finding_kind::exit_handler, at_exit},
    {"at_quick_exit", finding_kind::exit_handler, at_exit},
    {"__cxa_at_quick_exit", finding_kind::exit_handler, at_exit},
    {"pthread_atfork", finding_kind::exit_handler, at_fork},
    {"__register_atfork", finding_kind::exit_handler, at_fork},
    {"signal", finding_kind::signal_handler, signals},
    {"__sysv_signal", finding_kind::signal_handler, signals},
    {"sysv_signal", finding_kind::signal_handler, signals},
    {"bsd_signal", finding_kind::signal_handler, signals},
    {"ssignal", finding_kind::signal_handler, signals},
    {"sigset", finding_kind::signal_handler, signals},
    {"sigaction", finding_kind::signal_handler, signals},
    {"__sigaction", finding_kind::signal_handler, signals},
    {"sigaltstack", finding_kind::signal_handler, signals},
    {"setitimer", finding_kind::signal_handler, timers},
    {"timer_create", finding_kind::signal_handler, timers},
    {"dlopen", finding_kind::loads_code, opens},
    {"dlmopen", finding_kind::loads_code, opens},
    {"fork", finding_kind::forks, forks},
    {"_Fork", finding_kind::forks, forks},
    {"__fork", finding_kind::forks, forks},
    {"vfork", finding_kind::forks, forks},
    {"__vfork", finding_kind::forks, forks},
    {"clone", finding_kind::forks, forks},
    {"__clone", finding_kind::forks, forks},
    {"daemon", finding_kind::forks, forks},
    {"execl", finding_kind::replaces_process, execs},
    {"execle", finding_kind::replaces_process, execs},
    {"execlp", finding_kind::replaces_process, execs},
    {"execv", finding_kind::replaces_process, execs},
    {"execve", finding_kind::replaces_process, execs},
    {"execveat", finding_kind::replaces_process, execs},
    {"execvp", finding_kind::replaces_process, execs},
    {"execvpe", finding_kind::replaces_process, execs},
    {"fexecve", finding_kind::replaces_process, execs},
    {"posix_spawn", finding_kind::starts_process, starts},
    {"posix_spawnp", finding_kind::starts_process, starts},
    {"system", finding_kind::starts_process, starts},
    {"popen", finding_kind::starts_process, starts},
    {"exit", finding_kind::ends_process, ends},
    {"_exit", finding_kind::ends_process, ends},
    {"_Exit", finding_kind::ends_process, ends},
    {"quick_exit", finding_kind::ends_process, ends},
    {"__cxa_atexit", finding_kind::static_destructor, "has statics with destructors, which run when it is unloaded"},
});

/// Libraries whose only purpose is to be the allocator.
constexpr std::array<std::string_view, 6> allocators{"libjemalloc", "libtcmalloc", "libmimalloc",
                                                     "libhoard",    "libsnmalloc", "librpmalloc"};

/// Libraries that the host has anyway, so that they neither come nor go with the plugin.
constexpr std::array<std::string_view, 12> host_libraries{
    "libstdc++.so.", "libm.so.",  "libgcc_s.so.", "libc.so.",    "ld-linux",     "libpthread.so.",
    "libdl.so.",     "librt.so.", "libasan.so.",  "libtsan.so.", "libubsan.so.", "liblsan.so."};

/// The value of a key in key=value words; empty if there is none.
std::string_view build_value(std::string_view words, std::string_view key) {
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(' '));
    words.remove_prefix(std::min(words.size(), word.size() + 1));
    if (word.starts_with(key) && word.substr(key.size()).starts_with('=')) return word.substr(key.size() + 1);
  }
  return {};
}

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
    sort_findings(seen_);
    return std::move(seen_);
  }

 private:
  void add(finding_kind kind, std::string text, std::string_view subject = {}) {
    add(kind, rule_of(kind).level, std::move(text), subject);
  }
  void add(finding_kind kind, severity level, std::string text, std::string_view subject, std::string_view hint = {}) {
    seen_.findings.push_back(
        {kind, level, std::move(text), std::string{hint.empty() ? rule_of(kind).fix : hint}, std::string{subject}, {}});
  }

  void judge_note() {
    if (image_.build_id.empty()) add(finding_kind::missing_build_id, "has no build ID");
    if (image_.molt_notes.empty()) return add(finding_kind::missing_note, "has no molt note: it is not a plugin");
    if (image_.molt_notes.size() > 1)
      return add(finding_kind::duplicate_note, "has " + std::to_string(image_.molt_notes.size()) + " molt notes");
    seen_.note.assign(image_.molt_notes.front().begin(), image_.molt_notes.front().end());
    const auto header = read_note_header(image_.molt_notes.front());
    if (!header) return add_bad_note(header.error());
    const bool foreign = header->abi_version != MOLT_ABI_VERSION;
    if (foreign)
      add(finding_kind::foreign_abi, "is for plugin ABI version " + std::to_string(header->abi_version) +
                                         ", this host has version " + std::to_string(MOLT_ABI_VERSION));
    auto plugin = decode_note(image_.molt_notes.front());
    if (plugin)
      seen_.plugin = std::move(*plugin);
    else if (!foreign)
      add_bad_note(plugin.error());
    if (plugin && !foreign && image_.machine == host_machine()) judge_toolchain();
  }
  void add_bad_note(const error& why) { add(finding_kind::bad_note, severity::refuse, why.message(), {}, why.hint()); }

  // A plugin for another machine is loaded by another host.
  void judge_toolchain() {
    const auto& plugin = seen_.plugin;
    if (plugin.toolchain != detail::toolchain_text)
      add(finding_kind::foreign_toolchain, "is built for \"" + plugin.toolchain + "\", this host for \"" +
                                               std::string{detail::toolchain_text} +
                                               "\": standard types have other layouts");
    if (plugin.build.empty() || plugin.build == detail::build_text) return;
    const std::string_view wanted = build_value(plugin.build, "sanitizer");
    const std::string_view present = build_value(detail::build_text, "sanitizer");
    if (wanted != present && wanted != "none" && !wanted.empty())
      return add(finding_kind::foreign_sanitizer,
                 "is built with sanitizer " + std::string{wanted} + ", this host with " + std::string{present});
    add(finding_kind::other_build,
        "was built with " + plugin.build + ", this host with " + std::string{detail::build_text});
  }

  void judge_flags() {
    if (image_.text_relocations) add(finding_kind::text_relocations, "has text relocations (DT_TEXTREL)");
    if (image_.executable_stack) add(finding_kind::executable_stack, "asks for an executable stack");
    if (image_.writable_code) add(finding_kind::writable_code, "has a segment that is writable and executable");
    for (const auto path : image_.run_paths)
      add(finding_kind::run_path, "has the run path " + std::string{path} + " (DT_RPATH or DT_RUNPATH)", path);
    if (image_.no_delete)
      add(finding_kind::no_delete, "is marked DF_1_NODELETE: it stays mapped after it was replaced");
    if (image_.thread_local_storage)
      add(finding_kind::thread_local_storage,
          "has thread-local storage: glibc 2.34 to 2.36 may crash when such a library is "
          "closed, so there it stays mapped");
    if (image_.static_tls)
      add(finding_kind::static_tls, "needs static thread-local storage, of which a process has little");
    if (image_.registers_exit) add(finding_kind::exit_handler, std::string{at_exit} + " (atexit)", "atexit");
    if (carries_runtime()) add(finding_kind::private_runtime, "carries its own C++ runtime");
    if (!image_.defines_allocator.empty())
      add(finding_kind::other_allocator,
          "defines " + std::string{image_.defines_allocator} + ", an allocator of its own", image_.defines_allocator);
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
    many unique{finding_kind::unique_symbol, "has the unique symbol ", " (STB_GNU_UNIQUE)"};
    many types{finding_kind::exported_type, "shows others its weak ", ""};
    many extra{finding_kind::extra_exports, "exports ", " beside its table"};
    for (const auto& symbol : image_.symbols) {
      if (symbol.exported && symbol.name == MOLT_PLUGIN_SYMBOL) exports_table = true;
      if (symbol.unique && symbol.defined) add_one(unique, symbol.name);
      if (!symbol.exported || symbol.unique || symbol.name == MOLT_PLUGIN_SYMBOL || linker_made(symbol.name)) continue;
      add_one(symbol.weak && type_information(symbol.name) ? types : extra, symbol.name);
    }
    if (!exports_table) add(finding_kind::missing_export, "does not export " MOLT_PLUGIN_SYMBOL, MOLT_PLUGIN_SYMBOL);
    for (const many* each : {&unique, &types, &extra})
      if (each->count > findings_of_kind_max)
        add(each->kind, std::string{each->before} + std::to_string(each->count - findings_of_kind_max) + " more" +
                            std::string{each->after});
  }

  /// Findings of which a file may have any number.
  struct many {
    finding_kind kind;
    std::string_view before;
    std::string_view after;
    std::size_t count = 0;
  };
  void add_one(many& of, std::string_view name) {
    if (++of.count > findings_of_kind_max) return;
    std::string shown{name.substr(0, name_shown_max)};
    if (name.size() > name_shown_max) shown += "...";
    add(of.kind, std::string{of.before} + shown + std::string{of.after}, name);
  }

  static bool type_information(std::string_view name) {
    return name.starts_with("_ZTV") || name.starts_with("_ZTI") || name.starts_with("_ZTS") || name.starts_with("_ZTT");
  }

  static bool linker_made(std::string_view name) {
    return name == "_init" || name == "_fini" || name == "_edata" || name == "_end" || name == "__bss_start" ||
           name.starts_with("__asan_") || name.starts_with("__odr_asan") || name.starts_with("__gcov");
  }

  // A weak reference is only a question whether something is there: libstdc++'s headers ask so for threads.
  void judge_imports() {
    const bool deletes_keys = imports("pthread_key_delete") || imports("tss_delete");
    for (const auto& symbol : image_.symbols) {
      if (symbol.defined || symbol.weak) continue;
      const auto* const suspect =
          std::find_if(suspicious_imports.begin(), suspicious_imports.end(), [&](const suspicious_import& one) {
            return symbol.name == one.name || (one.name.starts_with("_Z") && symbol.name.starts_with(one.name));
          });
      if (suspect == suspicious_imports.end()) continue;
      const bool cleans_up = suspect->kind == finding_kind::thread_key && deletes_keys;
      add(suspect->kind, cleans_up ? severity::warn : rule_of(suspect->kind).level,
          std::string{suspect->why} + " (imports " + std::string{symbol.name} + ")", symbol.name);
    }
  }

  [[nodiscard]] bool imports(std::string_view name) const {
    return std::any_of(image_.symbols.begin(), image_.symbols.end(),
                       [name](const elf_symbol& symbol) { return !symbol.defined && symbol.name == name; });
  }

  void judge_libraries() {
    for (const auto& library : seen_.needed) {
      const auto begins = [&](std::string_view start) { return library.starts_with(start); };
      if (std::any_of(allocators.begin(), allocators.end(), begins))
        add(finding_kind::other_allocator, "needs the allocator " + library, library);
      else if (!is_host_library(library))
        add(finding_kind::foreign_library, "needs " + library + ", which is not inspected and comes and goes with it",
            library);
    }
  }

  const elf_image& image_;
  inspection seen_;
};

}  // namespace

bool is_host_library(std::string_view name) noexcept {
  return std::any_of(host_libraries.begin(), host_libraries.end(),
                     [&](std::string_view start) { return name.starts_with(start); });
}

void make_printable(finding& of) {
  for (auto* const text : {&of.text, &of.hint, &of.subject, &of.name}) *text = printable(*text);
}

void make_printable(inspection& seen) {
  for (auto& one : seen.findings) make_printable(one);
  for (auto& library : seen.needed) library = printable(library);
}

inspection inspect_image(const std::filesystem::path& path, std::size_t file_size, const elf_image& image) {
  return judge{path, file_size, image}.run();
}

}  // namespace molt::loader
