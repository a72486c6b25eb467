#include "capture/spool_directory.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <system_error>

namespace afterimage {
namespace {

constexpr char kSuffix[] = ".spool";

Error incomplete(const std::string& directory, const std::string& what) {
  return Error{"SPOOL_CORRUPT", "the spool in " + directory + ": " + what};
}

/// Of files of one ring in the order of their positions. Opens the last one alone: what a process had spooled
/// in hours, its successor has before production waits for it.
Outcome complete(std::vector<SpooledFile>& files, const std::string& directory, const SpoolOwner& owner,
                 uint64_t first, uint64_t end) {
  if (files.empty() || files.front().position != first)
    return incomplete(directory, "the file of position " + std::to_string(first) + " is missing");
  for (size_t i = 0; i < files.size(); ++i) {
    SpooledFile& file = files[i];
    if (file.generation != files.front().generation)
      return incomplete(directory, file.path + " is of another generation");
    if (i + 1 == files.size()) break;
    file.end = files[i + 1].position;
    file.last_lsn = files[i + 1].first_lsn - 1;
    std::error_code error;
    if (file.end - file.position > std::filesystem::file_size(file.path, error) || error)
      return incomplete(directory, "what follows " + file.path + " is missing");
  }
  SpooledFile& last = files.back();
  last.end = end;
  const auto last_lsn = SpoolFileReader(owner).last_lsn_before(last, end);
  if (!last_lsn.ok()) return last_lsn.error();
  last.last_lsn = *last_lsn;
  return Nothing{};
}

}  // namespace

std::string spool_file_path(const std::string& directory, const SpoolOwner& owner, uint64_t position) {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%016" PRIx64 "-%020" PRIu64 "%s", owner.ring, position, kSuffix);
  return directory + "/" + name.data();
}

Result<SpoolSurvey> survey_spool(const std::string& directory, const SpoolOwner& owner, uint64_t first,
                                 uint64_t end) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(directory, error);
  fs::directory_iterator entries;
  if (!error) entries = fs::directory_iterator(directory, error);
  SpoolSurvey survey;
  for (const fs::directory_iterator none; !error && entries != none; entries.increment(error)) {
    const std::string path = entries->path().string();
    if (path.ends_with(std::string(kSuffix) + kUnfinishedSuffix)) survey.leftovers.push_back(path);
    if (!path.ends_with(kSuffix)) continue;
    const auto header = read_spool_header(path);
    if (!header.ok() && is_spool_file_blank(path)) {
      survey.leftovers.push_back(path);
    } else if (!header.ok() || header->group != owner.group || header->member != owner.member) {
      survey.foreign.push_back(path);
    } else if (header->ring != owner.ring || header->first_position < first ||
               header->first_position >= end) {
      survey.leftovers.push_back(path);
    } else {
      survey.files.push_back({.path = path,
                              .generation = header->generation,
                              .position = header->first_position,
                              .first_lsn = header->first_lsn,
                              .first_time_ns = header->first_time_ns});
    }
  }
  if (error) return system_error("SPOOL_IO", "spool directory " + directory, error.value());
  if (first == kNothingSpooled || first >= end) return survey;
  std::sort(survey.files.begin(), survey.files.end(),
            [](const auto& a, const auto& b) { return a.position < b.position; });
  if (const Outcome whole = complete(survey.files, directory, owner, first, end); !whole.ok())
    return whole.error();
  return survey;
}

}  // namespace afterimage
