#include "base/durable_file.hpp"

#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace molt {

namespace {

[[nodiscard]] std::string text_of(int error_number) { return std::generic_category().message(error_number); }

[[nodiscard]] bool says_full(int error_number) noexcept { return error_number == ENOSPC || error_number == EDQUOT; }

}  // namespace

error system_error(std::string_view what, const std::filesystem::path& file, int error_number) {
  std::string message{what};
  message += ' ';
  message += file.string();
  message += ": ";
  message += text_of(error_number);
  return error{error_number == ENOENT ? reason::not_found : reason::io, std::move(message),
               says_full(error_number) ? "make room on its file system" : ""};
}

bool is_out_of_space(const error& why) {
  return why.why() == reason::io &&
         (why.message().ends_with(text_of(ENOSPC)) || why.message().ends_with(text_of(EDQUOT)));
}

bool write_all(file_system& system, int fd, std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t written = system.write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

namespace {

/// The error for the step that just failed; errno is read before anything else can change it.
[[nodiscard]] error step_failed(std::string_view what, const std::filesystem::path& file) {
  const int number = errno;
  return system_error(what, file, number);
}

result<unique_fd> open_folder(const std::filesystem::path& folder, file_system& system) {
  const auto& name = folder.empty() ? std::filesystem::path{"."} : folder;
  unique_fd fd{system.open(AT_FDCWD, name.c_str(), O_RDONLY | O_DIRECTORY, 0)};
  if (!fd) return step_failed("opening the folder", name);
  return fd;
}

result<void> write_new_file(int folder, const std::string& name, const std::filesystem::path& shown,
                            std::string_view content, mode_t mode, file_system& system) {
  const unique_fd fd{system.open(folder, name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode)};
  if (!fd) return step_failed("creating", shown);
  if (!write_all(system, fd.get(), content)) return step_failed("writing", shown);
  if (system.sync(fd.get()) != 0) return step_failed("syncing", shown);
  return ok();
}

}  // namespace

result<void> replace_file(const std::filesystem::path& file, std::string_view content, mode_t mode,
                          file_system& system) {
  const std::string name = file.filename().string();
  const std::string temporary = name + ".new";
  MOLT_TRY(const unique_fd folder, open_folder(file.parent_path(), system));
  auto written = write_new_file(folder.get(), temporary, file.parent_path() / temporary, content, mode, system);
  if (written && system.rename(folder.get(), temporary.c_str(), folder.get(), name.c_str()) != 0)
    written = step_failed("replacing", file);
  if (!written) {
    system.remove(folder.get(), temporary.c_str(), 0);  // debris; the error that led here is the one to tell
    return written;
  }
  if (system.sync(folder.get()) != 0) return step_failed("syncing the folder of", file);
  return ok();
}

result<std::string> read_file(const std::filesystem::path& file, std::size_t size_max) {
  // Without O_NONBLOCK a named pipe in place of the file would hold us for ever.
  const unique_fd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!fd) return step_failed("opening", file);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return step_failed("reading", file);
  if (!S_ISREG(status.st_mode)) return error{reason::io, "reading " + file.string() + ": not a regular file"};
  const auto too_large = [&] {
    return error{reason::out_of_bounds, file.string() + ": larger than " + std::to_string(size_max) + " bytes"};
  };
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > size_max) return too_large();
  std::string content;
  content.resize(size + 1);  // one more, to see the end, and a file that grows
  std::size_t filled = 0;
  while (true) {
    if (filled == content.size()) {
      if (filled > size_max) return too_large();
      content.resize(std::min(size_max, 2 * content.size()) + 1);
    }
    const ssize_t got = ::read(fd.get(), content.data() + filled, content.size() - filled);
    if (got < 0) {
      if (errno == EINTR) continue;
      return step_failed("reading", file);
    }
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  if (filled > size_max) return too_large();
  content.resize(filled);
  return content;
}

result<void> sync_folder(const std::filesystem::path& folder, file_system& system) {
  MOLT_TRY(const unique_fd fd, open_folder(folder, system));
  if (system.sync(fd.get()) != 0) return step_failed("syncing the folder", folder);
  return ok();
}

}  // namespace molt
