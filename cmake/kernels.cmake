# kernel_sources.cpp: the text of the kernels, which NVRTC compiles for the card that is there.
file(GLOB kernel_files CONFIGURE_DEPENDS RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}/csrc/kernels" csrc/kernels/*.cu)
list(TRANSFORM kernel_files REPLACE "\\.cu$" "" OUTPUT_VARIABLE KERNELS)
file(GLOB kernel_texts CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/kernels/*.cu*")
set(KERNEL_SOURCES "${CMAKE_CURRENT_BINARY_DIR}/kernel_sources.cpp")
add_custom_command(OUTPUT "${KERNEL_SOURCES}" VERBATIM
  COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/cmake/embed_kernels.py" "${KERNEL_SOURCES}"
    "${CMAKE_CURRENT_SOURCE_DIR}/csrc/kernels" ${kernel_files}
  DEPENDS cmake/embed_kernels.py ${kernel_texts})
