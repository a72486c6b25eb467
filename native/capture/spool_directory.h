// The directory of a member's spool: what its files are called, and what a process finds in it.
//
// Threads: any, one at a time for one directory.
#pragma once

#include <string>
#include <vector>

#include "capture/spool_file.h"

namespace afterimage {

struct SpoolSurvey {
  /// What lies in [first, end) of the owner's ring, ascending and without a hole.
  std::vector<SpooledFile> files;
  /// The member's own that nobody needs: of another ring, confirmed, never finished, or emptied by power
  /// loss.
  std::vector<std::string> leftovers;
  /// What somebody else has put there, and whoever that was shall take away.
  std::vector<std::string> foreign;
};

std::string spool_file_path(const std::string& directory, const SpoolOwner& owner, uint64_t position);

/// Makes `directory` if it is not there, and looks at what is in it. Of the files that hold [first, end) only
/// headers are read: what is in them is checked when it is needed. `first` == kNothingSpooled: none are.
/// Errors: SPOOL_CORRUPT (they do not hold all of it), SPOOL_IO.
Result<SpoolSurvey> survey_spool(const std::string& directory, const SpoolOwner& owner, uint64_t first,
                                 uint64_t end);

}  // namespace afterimage
