#include "loader/host_symbols.hpp"

#include "base/unique_fd.hpp"
#include "loader/elf_image.hpp"
#include "loader/elf_survey.hpp"
#include "loader/finding_rules.hpp"
#include "loader/image_findings.hpp"
#include "loader/plugin_image.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace molt::loader {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t libraries_max = 1000;      // of one closure
constexpr std::size_t libraries_kept_max = 500;  // with their names, for the next plugin
constexpr int configuration_depth_max = 8;       // of includes in ld.so.conf

/// What a library of the system offers.
struct host_library {
  std::string text;                     ///< of all names
  std::vector<std::string_view> names;  ///< sorted
  std::vector<std::string> versions;
  std::vector<std::string> needed;

  [[nodiscard]] bool defines(std::string_view name) const {
    return std::binary_search(names.begin(), names.end(), name);
  }
};
using library_pointer = std::shared_ptr<const host_library>;

library_pointer read_library(const fs::path& path, const unique_fd& file, std::size_t size) {
  if (size == 0 || size > image_size_max) return nullptr;
  void* const view = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (view == MAP_FAILED) return nullptr;
  const std::unique_ptr<void, std::function<void(void*)>> mapped{view, [size](void* at) { ::munmap(at, size); }};
  const std::span bytes{static_cast<const std::byte*>(view), size};
  const auto image = elf_image::parse(path, bytes);
  if (!image || image->machine != host_machine()) return nullptr;
  auto made = std::make_shared<host_library>();
  std::size_t size_of_all = 0;
  for (const auto& symbol : image->symbols)
    if (symbol.exported) size_of_all += symbol.name.size();
  made->text.reserve(size_of_all);  // the names point into it
  for (const auto& symbol : image->symbols) {
    if (!symbol.exported) continue;
    made->text += symbol.name;
    made->names.push_back(std::string_view{made->text}.substr(made->text.size() - symbol.name.size()));
  }
  std::sort(made->names.begin(), made->names.end());
  for (const auto version : elf_survey::make(bytes, *image).versions) made->versions.emplace_back(version);
  made->needed.assign(image->needed.begin(), image->needed.end());
  return made;
}

/// Null: not a library of this machine.
library_pointer library_at(const fs::path& path) {
  struct known {
    dev_t device;
    ino_t inode;
    off_t size;
    timespec changed;
    library_pointer library;
  };
  static std::mutex guard;
  static std::map<fs::path, known> all;
  const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat now {};
  if (!file || ::fstat(file.get(), &now) != 0 || !S_ISREG(now.st_mode)) return nullptr;
  const std::lock_guard lock{guard};
  const auto found = all.find(path);
  if (found != all.end() && found->second.device == now.st_dev && found->second.inode == now.st_ino &&
      found->second.size == now.st_size && found->second.changed.tv_sec == now.st_mtim.tv_sec &&
      found->second.changed.tv_nsec == now.st_mtim.tv_nsec)
    return found->second.library;
  if (all.size() >= libraries_kept_max) all.clear();
  auto library = read_library(path, file, static_cast<std::size_t>(now.st_size));
  all.insert_or_assign(path, known{now.st_dev, now.st_ino, now.st_size, now.st_mtim, library});
  return library;
}

std::vector<fs::path> loaded_files() {
  std::vector<fs::path> files;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* to) {
        // The program itself has no name here.
        if (info->dlpi_name != nullptr && info->dlpi_name[0] == '/')
          static_cast<std::vector<fs::path>*>(to)->emplace_back(info->dlpi_name);
        return 0;
      },
      &files);
  return files;
}

// ld.so.conf(5): a folder a line, and "include pattern".
void read_configuration(const fs::path& file, int depth, std::vector<fs::path>& to) {
  std::ifstream lines{file};
  for (std::string line; depth > 0 && std::getline(lines, line);) {
    line.resize(std::min(line.size(), line.find('#')));
    const auto start = line.find_first_not_of(" \t");
    if (start == std::string::npos) continue;
    line = line.substr(start, line.find_last_not_of(" \t\r") - start + 1);
    if (!line.starts_with("include ")) {
      to.emplace_back(line);
      continue;
    }
    const auto pattern = file.parent_path() / line.substr(line.find_first_not_of(' ', 7));
    glob_t found{};
    if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
      for (std::size_t i = 0; i < found.gl_pathc; ++i) read_configuration(found.gl_pathv[i], depth - 1, to);
    ::globfree(&found);
  }
}

/// Where the dynamic linker looks, in its order but for its cache, which is made of these folders.
std::vector<fs::path> search_folders() {
  std::vector<fs::path> folders;
  if (void* const self = ::dlopen(nullptr, RTLD_LAZY | RTLD_LOCAL)) {
    Dl_serinfo size{};
    if (::dlinfo(self, RTLD_DI_SERINFOSIZE, &size) == 0) {
      std::vector<std::max_align_t> room(size.dls_size / sizeof(std::max_align_t) + 1);
      auto* const list = reinterpret_cast<Dl_serinfo*>(room.data());
      list->dls_size = size.dls_size;
      list->dls_cnt = size.dls_cnt;
      if (::dlinfo(self, RTLD_DI_SERINFO, list) == 0)
        for (unsigned i = 0; i < list->dls_cnt; ++i) folders.emplace_back(list->dls_serpath[i].dls_name);
    }
    ::dlclose(self);
  }
  read_configuration("/etc/ld.so.conf", configuration_depth_max, folders);
  return folders;
}

/// The libraries that are searched for one plugin.
class host {
 public:
  host() {
    // A copy of the process that is made while the linker is asked would have its lock held for ever.
    const auto no_copy = hold_images();
    loaded_ = loaded_files();
    folders_ = search_folders();
  }

  library_pointer find(const std::string& name) const {
    if (name.find('/') != std::string::npos) return library_at(name);
    for (const auto& file : loaded_)
      if (file.filename() == name) return library_at(file);
    for (const auto& folder : folders_)
      if (auto library = library_at(folder / name)) return library;
    return nullptr;
  }
  [[nodiscard]] const std::vector<fs::path>& loaded() const { return loaded_; }

 private:
  std::vector<fs::path> loaded_;
  std::vector<fs::path> folders_;
};

/// "GLIBC_2.36" after "GLIBC_2.4": numbers as numbers.
bool older_version(std::string_view one, std::string_view other) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  while (!one.empty() && !other.empty()) {
    if (is_digit(one[0]) && is_digit(other[0])) {
      unsigned a = 0;
      unsigned b = 0;
      const auto* const end_a = std::from_chars(one.data(), one.data() + one.size(), a).ptr;
      const auto* const end_b = std::from_chars(other.data(), other.data() + other.size(), b).ptr;
      if (a != b) return a < b;
      one.remove_prefix(static_cast<std::size_t>(end_a - one.data()));
      other.remove_prefix(static_cast<std::size_t>(end_b - other.data()));
      continue;
    }
    if (one[0] != other[0]) return one[0] < other[0];
    one.remove_prefix(1);
    other.remove_prefix(1);
  }
  return one.size() < other.size();
}

/// The newest version of the same family: "GLIBC_2.36" for "GLIBC_2.38".
std::string newest_like(const host_library& library, std::string_view wanted) {
  const std::string_view family = wanted.substr(0, wanted.find_first_of("0123456789"));
  std::string newest;
  for (const auto& version : library.versions) {
    const bool numbered =
        version.size() > family.size() && version[family.size()] >= '0' && version[family.size()] <= '9';
    if (version.starts_with(family) && numbered && (newest.empty() || older_version(newest, version))) newest = version;
  }
  return newest;
}

bool of_sanitizer(std::string_view name) {
  constexpr std::array<std::string_view, 8> starts{"__asan_", "__ubsan_",  "__tsan_",      "__msan_",
                                                   "__lsan_", "__hwasan_", "__sanitizer_", "__sancov_"};
  return std::any_of(starts.begin(), starts.end(), [&](std::string_view start) { return name.starts_with(start); });
}

class answerer {
 public:
  explicit answerer(host_question& question) : question_{question} {}

  void run() {
    collect();
    for (const auto& import : question_.seen.imports) judge(import);
  }

 private:
  // The libraries that it names and those that they name.
  void collect() {
    std::vector<std::string> waiting = question_.seen.needed;
    for (std::size_t i = 0; i < waiting.size() && i < libraries_max; ++i) {
      if (libraries_.contains(waiting[i])) continue;
      auto library = host_.find(waiting[i]);
      if (library == nullptr) {
        complain_of(waiting[i]);
        continue;
      }
      for (const auto& next : library->needed) waiting.push_back(next);
      libraries_.emplace(waiting[i], std::move(library));
    }
    for (const auto& file : host_.loaded())
      if (auto library = library_at(file)) loaded_.push_back(std::move(library));
  }

  void complain_of(const std::string& library) {
    if (question_.beside.contains(library))
      return add_finding(question_.seen, finding_kind::missing_library,
                         "needs " + library + ", which lies beside it, where the linker does not look", library);
    unknown_ = true;
    add_finding(question_.seen, finding_kind::missing_library, "needs " + library + ", which this machine lacks",
                library);
  }

  void judge(const symbol_import& import) {
    if (import.weak || of_sanitizer(import.name)) return;
    if (!import.version.empty()) {
      const auto library = libraries_.find(import.library);
      if (library != libraries_.end() && std::find(library->second->versions.begin(), library->second->versions.end(),
                                                   import.version) == library->second->versions.end()) {
        const std::string newest = newest_like(*library->second, import.version);
        return add_finding(question_.seen, finding_kind::missing_version,
                           "needs " + import.version + " of " + import.library + " for " + import.name +
                               ", this machine has " + (newest.empty() ? "no such version" : "up to " + newest),
                           import.name);
      }
    }
    // What a library that is missing defines, nobody knows.
    if (unknown_ || is_defined(import.name)) return;
    add_finding(question_.seen, finding_kind::undefined_symbol, "uses " + import.name + ", which nothing defines",
                import.name);
  }

  [[nodiscard]] bool is_defined(const std::string& name) const {
    if (question_.defined_beside.contains(name)) return true;
    for (const auto& [_, library] : libraries_)
      if (library->defines(name)) return true;
    return std::any_of(loaded_.begin(), loaded_.end(), [&](const auto& library) { return library->defines(name); });
  }

  host_question& question_;
  host host_;
  std::map<std::string, library_pointer, std::less<>> libraries_;
  std::vector<library_pointer> loaded_;  // of this process
  bool unknown_ = false;
};

}  // namespace

void judge_host(host_question& question) { answerer{question}.run(); }

void add_finding(inspection& to, finding_kind kind, std::string text, std::string_view subject, std::string_view name) {
  const auto& rule = rule_of(kind);
  to.findings.push_back(
      {kind, rule.level, std::move(text), std::string{rule.fix}, std::string{subject}, std::string{name}});
  make_printable(to.findings.back());
}

}  // namespace molt::loader
