#include "loader/finding_rules.hpp"

#include <algorithm>

namespace molt::loader {
namespace {

using enum finding_kind;
using enum severity;

constexpr std::array<finding_rule, finding_kinds> rules{{
    {missing_build_id, refuse, "missing_build_id",
     "Without a build ID the loader cannot tell two builds apart, nor a debugger find the symbols of an old stack.",
     "link with -Wl,--build-id=sha1"},
    {missing_note, refuse, "missing_note",
     "The file does not say which states and messages it has: it is not a plugin.",
     "end its source with MOLT_PLUGIN(...)"},
    {duplicate_note, refuse, "duplicate_note", "Two notes may say different things.",
     "use MOLT_PLUGIN(...) once in a plugin"},
    {bad_note, refuse, "bad_note", "What the note says cannot be, so nothing it says can be relied on.",
     "build the plugin again with the molt that will run it"},
    {foreign_abi, refuse, "foreign_abi", "The boundary between host and plugin has another layout.",
     "build it against the molt that will run it"},
    {missing_export, refuse, "missing_export", "The host finds the plugin's table by this one symbol.",
     "end its source with MOLT_PLUGIN(...)"},
    {unique_symbol, refuse, "unique_symbol",
     "The linker keeps one copy of a unique symbol for the whole process: the new version reads the old one's static, "
     "and the old one is never unmapped.",
     "compile everything in it with -fno-gnu-unique"},
    {text_relocations, refuse, "text_relocations",
     "Code pages would be writable while it is loaded, and no two images share them.",
     "compile everything in it with -fPIC"},
    {executable_stack, refuse, "executable_stack", "Loading it makes the stacks of the whole process executable.",
     "link with -Wl,-z,noexecstack; mark assembler sources with .note.GNU-stack"},
    {run_path, refuse, "run_path", "A run path lets another library than the inspected one be loaded.",
     "link without -rpath; in CMake SKIP_BUILD_RPATH"},
    {writable_code, refuse, "writable_code",
     "A segment that is writable and executable turns any stray write into code.",
     "link with the default linker script and -Wl,-z,separate-code"},
    {no_delete, warn, "no_delete", "It stays mapped after it was replaced, as every later version does.",
     "link without -Wl,-z,nodelete"},
    {private_runtime, refuse, "private_runtime",
     "Exceptions and types of two C++ runtimes do not know each other, and a second unwinder cannot unwind through the "
     "first.",
     "link without -static-libstdc++ and -static-libgcc"},
    {thread_key, refuse, "thread_key",
     "The destructor of a thread key runs when a thread ends, after the code is gone.",
     "keep such data in the server's state"},
    {thread_exit_handler, refuse, "thread_exit_handler",
     "A thread_local with a destructor pins the image until every thread that touched it has ended.",
     "keep such data in the server's state"},
    {owns_threads, refuse, "owns_threads", "A thread of its own would go on running code that is unmapped.",
     "use timers, messages and ctx.offload()"},
    {exit_handler, refuse, "exit_handler", "A handler that is called at exit or fork is code that is gone by then.",
     "release resources in terminate()"},
    {signal_handler, warn, "signal_handler", "A signal handler or timer callback points into the version that set it.",
     "leave signals to the node; use ctx.send_after()"},
    {thread_local_storage, warn, "thread_local_storage",
     "glibc 2.34 to 2.36 may crash when a library with thread-local storage is closed, so there it stays mapped.",
     "keep such data in the server's state"},
    {static_tls, warn, "static_tls",
     "A process has little room for static thread-local storage: loading fails once it is used up.",
     "compile with -ftls-model=global-dynamic"},
    {extra_exports, warn, "extra_exports",
     "What is exported may be taken for another library's symbol of that name, or be replaced by it.",
     "build it with molt_add_plugin, which hides all but one symbol"},
    {foreign_library, warn, "foreign_library",
     "A library that the host does not have comes and goes with the plugin, is not inspected as a plugin is, and is "
     "shared with its other versions.",
     "link it statically into the plugin"},
    {foreign_toolchain, refuse, "foreign_toolchain",
     "Standard types have other layouts than in the host and in other plugins: passing one across would corrupt "
     "memory.",
     "build it with the host's standard library and the same _GLIBCXX_ switches"},
    {foreign_sanitizer, refuse, "foreign_sanitizer",
     "A sanitizer's runtime must be in the process from its start: loading it later ends the process.",
     "build host and plugin with the same sanitizer, or with none"},
    {other_build, note, "other_build", "It was compiled otherwise than the host, with the same layouts.",
     "nothing, if that was intended"},
    {private_unique_symbol, refuse, "private_unique_symbol",
     "A library beside the plugin has a unique symbol: it pins the library, and with it what it shares between "
     "versions.",
     "compile that library with -fno-gnu-unique, or link it statically into the plugin"},
    {missing_library, refuse, "missing_library", "Nothing on this machine provides a library that it needs.",
     "install the library, or link it statically into the plugin"},
    {missing_version, refuse, "missing_version", "It was linked against a newer library than this machine has.",
     "build it on the oldest system that shall run it"},
    {undefined_symbol, refuse, "undefined_symbol",
     "No library that it needs, and nothing of the host, defines a symbol that it uses.",
     "link with -Wl,-z,defs, which names the place that uses it"},
    {other_allocator, refuse, "other_allocator",
     "Memory moves between host and plugins: what one allocator gave another would free.",
     "leave the allocator to the host; set it for the whole node"},
    {loads_code, warn, "loads_code", "What it opens by dlopen is neither inspected nor closed with it.",
     "link what it needs; make a plugin of what is to be replaced"},
    {forks, refuse, "forks", "A fork copies the node with one thread and every lock that the others held.",
     "use posix_spawn() in ctx.offload()"},
    {replaces_process, refuse, "replaces_process", "exec replaces the node, and every state is lost.",
     "use posix_spawn() in ctx.offload()"},
    {starts_process, warn, "starts_process",
     "A process that it starts does not end with its version, and blocks who waits for it.",
     "do so in ctx.offload() and keep the process id in the state"},
    {ends_process, warn, "ends_process", "exit ends the node, and with it every server.", "throw, or ctx.stop_self()"},
    {indirect_function, warn, "indirect_function",
     "The resolver of an IFUNC is code that runs inside the linker while the file is loaded.",
     "choose at run time by an ordinary function pointer, or __builtin_cpu_supports()"},
    {exported_type, warn, "exported_type",
     "A weak vtable or typeinfo that is visible may be resolved to another library's copy, whose code may be gone.",
     "compile with -fvisibility=hidden -fvisibility-inlines-hidden"},
    {static_data, note, "static_data",
     "A writable static is state that no migration sees: the new version begins with a fresh one.",
     "move it into the server's state, or make it const"},
    {static_destructor, note, "static_destructor",
     "Destructors of statics run when it is unloaded, after its servers are gone.", "release resources in terminate()"},
    {stripped, note, "stripped", "Without a symbol table, stacks in crash reports show addresses only.",
     "keep .symtab: strip with --strip-debug, or keep the unstripped file by its build ID"},
    {split_debug, note, "split_debug", "Its debug information lies in another file, which is not packed with it.",
     "keep that file where debuggers look for it by build ID"},
    {build_path, note, "build_path", "It holds the path of a folder of the machine that built it.",
     "compile with -fmacro-prefix-map=\"$PWD\"=. , as molt_add_plugin does"},
}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < rules.size(); ++i)
    if (rules[i].kind != static_cast<finding_kind>(i)) return false;
  return true;
}
static_assert(in_order());

}  // namespace

const std::array<finding_rule, finding_kinds>& finding_rules() noexcept { return rules; }

const finding_rule& rule_of(finding_kind kind) noexcept { return rules[static_cast<std::size_t>(kind)]; }

const finding_rule* find_rule(std::string_view code) noexcept {
  const auto* const found =
      std::find_if(rules.begin(), rules.end(), [code](const finding_rule& rule) { return rule.code == code; });
  return found == rules.end() ? nullptr : found;
}

std::string_view to_string(finding_kind kind) noexcept { return rule_of(kind).code; }

std::string_view to_string(severity level) noexcept {
  switch (level) {
    case note:
      return "note";
    case warn:
      return "warn";
    case refuse:
      return "refuse";
  }
  return "note";
}

}  // namespace molt::loader
