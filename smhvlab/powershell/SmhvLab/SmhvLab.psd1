# The module is found, with its role capability, in a folder "SmhvLab" of $env:PSModulePath.
@{
    RootModule = 'SmhvLab.psm1'
    ModuleVersion = '1.0.0'
    GUID = '2f0b3f6d-6a0e-4a4b-8f4e-0b7c9f1d2a35'
    Author = 'smhvlab'
    Description = 'What smhvlab needs on a Hyper-V host and cannot send as one cmdlet'
    PowerShellVersion = '5.1'
    FunctionsToExport = 'Invoke-SmhvGuestCheck'
    CmdletsToExport = @()
    VariablesToExport = @()
    AliasesToExport = @()
}
